"""Support vector machines, linear models and ZipMap as scikit-learn exports them, against ONNX Runtime; and what is
refused."""

import json
import subprocess
from itertools import product

import agreement
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from server import BINARY
from skl2onnx import to_onnx
from sklearn import datasets, linear_model, preprocessing, svm
from sklearn.base import is_classifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

OPSETS = {"": 17, "ai.onnx.ml": 3}
KERNELS = ["linear", "poly", "rbf", "sigmoid"]


def tables():
    """Rows and classes by name; scaled, as support vector machines want them."""
    for name, load in [("cancer", datasets.load_breast_cancer), ("wine", datasets.load_wine)]:
        features, classes = load(return_X_y=True)
        rows = preprocessing.scale(features)[::2].astype(np.float32)
        yield name, rows, classes[::2]
        yield f"{name}_texts", rows, np.array(["rot", "weiß", "rosé"])[classes[::2]]


def classifiers():
    for (table, rows, classes), kernel, probability in product(tables(), KERNELS, [False, True]):
        model = svm.SVC(kernel=kernel, probability=probability, random_state=0)
        yield f"svc_{kernel}_{probability}_{table}", model.fit(rows, classes), rows
    for table, rows, classes in tables():
        yield f"nu_svc_{table}", svm.NuSVC(nu=0.3, gamma=0.05).fit(rows, classes), rows
        yield f"linear_svc_{table}", svm.LinearSVC().fit(rows, classes), rows
        yield f"rest_{table}", OneVsRestClassifier(svm.SVC(probability=True, random_state=0)).fit(rows, classes), rows


def regressors():
    rows, values = datasets.load_diabetes(return_X_y=True)
    rows, values = rows[::3].astype(np.float32), values[::3]
    for kernel in KERNELS:
        yield f"svr_{kernel}", svm.SVR(kernel=kernel, C=10).fit(rows, values), rows
        yield f"nu_svr_{kernel}", svm.NuSVR(kernel=kernel, C=10).fit(rows, values), rows
        yield f"one_class_{kernel}", svm.OneClassSVM(kernel=kernel, nu=0.3).fit(rows), rows
    yield "linear_svr", svm.LinearSVR(C=10).fit(rows, values), rows
    # Small enough for FP32 to hold sums that nearly cancel each other to 1e-5.
    several = np.stack([values / 10, -values / 10, values**2 / 1000], axis=1)
    for name, model in [("linear", linear_model.LinearRegression), ("ridge", linear_model.Ridge)]:
        for targets, intercept in product([values, several], [True, False]):
            fitted = model(fit_intercept=intercept).fit(rows, targets)
            yield f"{name}_{targets.ndim}_{intercept}", fitted, rows
    for norm in ["max", "l1", "l2"]:
        fitted = make_pipeline(preprocessing.Normalizer(norm), linear_model.Ridge()).fit(rows, values)
        yield f"normalizer_{norm}", fitted, rows


def converted():
    for name, model, rows in [*classifiers(), *regressors()]:
        # LinearSVC has no such option, and none is wanted for regressors.
        without = is_classifier(model) and not isinstance(model, svm.LinearSVC)
        options = {"zipmap": False} if without else {}
        yield name, to_onnx(model, rows[:1], options=options, target_opset=OPSETS), rows


def zip_maps():
    """Classifiers with the ZipMap that skl2onnx adds unless told otherwise."""
    for table, rows, classes in tables():
        for model in [linear_model.LogisticRegression(), svm.SVC(probability=True, random_state=0)]:
            fitted = model.fit(rows, classes)
            yield f"zip_{type(model).__name__}_{table}", to_onnx(fitted, rows[:1], target_opset=OPSETS), rows


MODELS = {name: (model, rows) for name, model, rows in converted()}
ZIP_MAPS = {name: (model, rows) for name, model, rows in zip_maps()}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    every = {name: model for name, (model, _) in [*MODELS.items(), *ZIP_MAPS.items()]}
    with agreement.serving(tmp_path_factory, every) as running:
        yield running


@pytest.mark.parametrize("name", MODELS)
def test_models_answer_like_onnx_runtime(models, session, name):
    model, rows = MODELS[name]
    agreement.check(models, session, name, model, {"X": rows})


@pytest.mark.parametrize("name", ZIP_MAPS)
def test_a_zip_map_names_the_columns(models, session, name):
    model, rows = ZIP_MAPS[name]
    runtime = onnxruntime.InferenceSession(model.SerializeToString(), agreement.QUIET)
    labels, maps = runtime.run(None, {"X": rows})
    maps = [{str(key): value for key, value in row.items()} for row in maps]
    wanted = np.array([list(row.values()) for row in maps], np.float32)

    for body, found in [
        ({"instances": rows.tolist()}, lambda answer: [row["output_probability"] for row in answer["predictions"]]),
        ({"inputs": rows.tolist()}, lambda answer: answer["outputs"]["output_probability"]),
    ]:
        found = found(session.post(models.url(f"/predict/{name}"), json=body).json())
        assert [set(row) for row in found] == [set(row) for row in maps]
        values = [[row[key] for key in expected] for row, expected in zip(found, maps, strict=True)]
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-5)

    tensor = {"name": "X", "datatype": "FP32", "shape": rows.shape, "data": rows.ravel().tolist()}
    answer = session.post(models.url(f"/v2/models/{name}/infer"), json={"inputs": [tensor]}).json()
    label, scores = answer["outputs"]
    assert label["data"] == labels.tolist()
    assert (scores["datatype"], scores["shape"]) == ("FP32", [*wanted.shape])
    metadata = session.get(models.url(f"/v2/models/{name}")).json()
    assert metadata["outputs"][1] == {"name": "output_probability", "datatype": "FP32", "shape": [-1, wanted.shape[1]]}


def test_the_command_line_knows_a_zip_map(tmp_path):
    model, rows = ZIP_MAPS["zip_LogisticRegression_wine_texts"]
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    report = json.loads(onnxd("inspect", "--json", path).stdout)
    assert report["outputs"][1]["columns"] == ["rosé", "rot", "weiß"]
    assert "[-1,3]: rosé, rot, weiß" in onnxd("inspect", path).stdout
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"instances": rows[:1].tolist()}))
    answer = onnxd("predict", path, "--input", request).stdout
    assert '[{"rosé":' in answer


def onnxd(*arguments):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=30)


def one_node(operator, x=("FLOAT", 3), **attributes):
    kind, columns = x
    inputs = [helper.make_tensor_value_info("X", getattr(TensorProto, kind), [None, columns])]
    outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)]
    return with_types(operator, inputs, outputs, attributes)


def of_map(operator, key, value, **attributes):
    """A model that takes a map."""
    kind = helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, ()))
    inputs = [helper.make_value_info("X", kind)]
    outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)]
    return with_types(operator, inputs, outputs, attributes)


def without_inputs(model):
    del model.graph.node[0].input[:]
    return model


def with_types(operator, inputs, outputs, attributes):
    node = helper.make_node(operator, ["X"], ["Y"], domain="ai.onnx.ml", **attributes)
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(helper.make_graph([node], "one", inputs, outputs), opset_imports=opsets, ir_version=8)


LABELS = {"classlabels_ints": [0, 1]}
SVM = {"kernel_params": [1.0, 0.0, 1.0], "rho": [0.0], "coefficients": [1.0] * 4, "support_vectors": [1.0] * 12}
REFUSED = {
    "a map of words": (
        of_map("DictVectorizer", TensorProto.STRING, TensorProto.FLOAT, string_vocabulary=["a"]),
        "ai.onnx.ml.DictVectorizer takes it: export the model without that step",
    ),
    "a map of numbers": (
        of_map("CastMap", TensorProto.INT64, TensorProto.FLOAT),
        "ai.onnx.ml.CastMap takes it: export the model without that step",
    ),
    "an unknown norm": (one_node("Normalizer", norm="L3"), "unknown norm L3"),
    "no targets": (one_node("LinearRegressor", coefficients=[1.0] * 3, targets=0), "3 coefficients for 0 targets"),
    "too many targets": (one_node("LinearRegressor", coefficients=[1.0] * 3, targets=2**62), "3 coefficients for"),
    "targets that do not divide": (one_node("LinearRegressor", coefficients=[1.0] * 3, targets=2), "3 coefficients"),
    "other features": (one_node("LinearRegressor", coefficients=[1.0] * 4), "4 features are needed and the input has 3"),
    "no labels": (one_node("SVMClassifier", **SVM), "exactly one of"),
    "an unknown kernel": (
        one_node("SVMClassifier", vectors_per_class=[2, 2], kernel_type="CUBIC", **LABELS, **SVM),
        "unknown kernel_type CUBIC",
    ),
    "fewer than no vectors": (one_node("SVMClassifier", vectors_per_class=[-1, 5], **LABELS, **SVM), "vectors_per_class"),
    "vectors beyond all bounds": (
        one_node("SVMClassifier", vectors_per_class=[2**63 - 1, 2**63 - 1], **LABELS, **SVM),
        "values of support_vectors",
    ),
    "vectors of one class": (one_node("SVMClassifier", vectors_per_class=[4], **LABELS, **SVM), "vectors_per_class has 1"),
    "too few coefficients": (
        one_node("SVMClassifier", vectors_per_class=[6, 6], **LABELS, **SVM),
        "4 coefficients for 2 classes and 12 support vectors",
    ),
    "too few probabilities": (
        one_node("SVMClassifier", vectors_per_class=[2, 2], prob_a=[1.0], **LABELS, **SVM),
        "1 values of prob_a and 0 of prob_b",
    ),
    "half of a kernel": (
        one_node("SVMRegressor", n_supports=4, **(SVM | {"kernel_params": [1.0]})),
        "kernel_params has 1 values instead of 3",
    ),
    "more vectors than values": (one_node("SVMRegressor", n_supports=10**12, **SVM), "12 values of support_vectors"),
    "widths for other inputs": (one_node("FeatureVectorizer", inputdimensions=[1, 2]), "2 values of inputdimensions"),
    "widths beyond all bounds": (one_node("FeatureVectorizer", inputdimensions=[2**62]), "beyond all bounds"),
    "keys without values": (
        one_node("LabelEncoder", keys_floats=[1.0, 2.0], values_floats=[1.0]),
        "2 keys and 1 values",
    ),
    "categories without numbers": (
        one_node("CategoryMapper", cats_strings=["a"], cats_int64s=[1, 2]),
        "1 texts for 2 numbers",
    ),
    "names for other columns": (one_node("ZipMap", classlabels_strings=["a", "b"]), "3 columns for 2 class labels"),
    "no inputs": (without_inputs(one_node("Normalizer")), "the node has 0 inputs of at least 1"),
    "no names for columns": (one_node("ZipMap"), "exactly one of"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_served_is_refused_with_the_reason(tmp_path, what):
    model, reason = REFUSED[what]
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    refused = onnxd("inspect", path)
    said = refused.stdout + refused.stderr
    assert refused.returncode == 1
    assert reason in said
    assert "panicked" not in said
