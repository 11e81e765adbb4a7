"""Our own operators of ai.onnx.ml, but for the trees: every attribute and type, against ONNX Runtime.

Each model is asked over the Open Inference Protocol, so that types and shapes are compared as well, with all of its
rows, with one row and with none.
"""

import json
from itertools import product

import agreement
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

ML = "ai.onnx.ml"
TYPES = {
    "FP32": (TensorProto.FLOAT, np.float32),
    "FP64": (TensorProto.DOUBLE, np.float64),
    "INT64": (TensorProto.INT64, np.int64),
    "INT32": (TensorProto.INT32, np.int32),
    "INT16": (TensorProto.INT16, np.int16),
    "BYTES": (TensorProto.STRING, object),
}
NUMBERS = ["FP32", "FP64", "INT64", "INT32"]
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]
KERNELS = ["LINEAR", "POLY", "RBF", "SIGMOID"]
FEATURES = 3


class Case:
    """A model of one operator, inputs for it, and, where ONNX Runtime lacks the inputs' type, a model that it takes."""

    def __init__(self, operator, inputs, outputs, opset=3, like=None, constants=None, **attributes):
        self.inputs, self.outputs, self.like = inputs, outputs, like
        self.model = self.make(operator, inputs, outputs, opset, constants or {}, attributes)
        runs = outputs if like is None else [(name, "FP32") for name, _ in outputs]
        self.runs = self.make(operator, self.as_run(inputs), runs, opset, constants or {}, attributes)

    def as_run(self, inputs):
        """The inputs for ONNX Runtime."""
        return {name: values.astype(self.like) if self.like else values for name, values in inputs.items()}

    def make(self, operator, inputs, outputs, opset, constants, attributes):
        def info(name, values):
            shape = [None, *values.shape[1:]] if values.ndim > 1 else [None] * values.ndim
            return helper.make_tensor_value_info(name, element_type(values), shape)

        names = [*inputs, *constants]
        node = helper.make_node(operator, names, [name for name, _ in self.outputs], domain=ML, **attributes)
        graph = helper.make_graph(
            [node],
            operator,
            [info(name, values) for name, values in inputs.items()],
            [helper.make_tensor_value_info(name, TYPES[kind][0], None) for name, kind in outputs],
            [numpy_helper.from_array(np.array(values), name) for name, values in constants.items()],
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def check(self, server, session, name):
        runtime = onnxruntime.InferenceSession(self.runs.SerializeToString(), agreement.QUIET)
        # ONNX Runtime's FeatureVectorizer ends the process when it is given no rows.
        fewest = [1] if "vectorizer" in name else [1, 0]
        for rows in [slice(None), *map(slice, fewest)]:
            # A list without rows is one row.
            whole = all(values.ndim < 2 for values in self.inputs.values())
            inputs = self.inputs if whole else {name: values[rows] for name, values in self.inputs.items()}
            expected = runtime.run(None, self.as_run(inputs))
            found = ask(server, session, name, inputs)
            for (output, kind), wanted in zip(self.outputs, expected, strict=True):
                datatype, values = found[output]
                assert datatype == kind
                if wanted.dtype.kind == "f":
                    np.testing.assert_allclose(values, wanted.astype(values.dtype), rtol=1e-5, atol=1e-5)
                else:
                    np.testing.assert_array_equal(values, wanted)


def element_type(values):
    return next(number for number, dtype in TYPES.values() if values.dtype == dtype)


def ask(server, session, name, inputs):
    """The outputs by name, each with its data type."""
    datatypes = {np.dtype(dtype): datatype for datatype, (_, dtype) in TYPES.items()}
    tensors = [
        {"name": name, "datatype": datatypes[values.dtype], "shape": values.shape, "data": values.ravel().tolist()}
        for name, values in inputs.items()
    ]
    answer = session.post(
        server.url(f"/v2/models/{name}/infer"),
        data=json.dumps({"inputs": tensors, "parameters": {"nan": "token"}}),
    )
    assert answer.status_code == 200, answer.text
    return {
        output["name"]: (
            output["datatype"],
            np.array(output["data"], TYPES[output["datatype"]][1]).reshape(output["shape"]),
        )
        for output in answer.json()["outputs"]
    }


def numbers(kind, shape=(6, FEATURES), seed=0):
    """Rows with zeros, signs and ties in them; floats also with what is no number."""
    values = np.random.default_rng(seed).integers(-4, 5, shape).astype(TYPES[kind][1])
    if kind.startswith("FP"):
        values = values / 2
    if len(shape) == 2:
        values[1] = 0
        values[2] = -2
    return values.astype(TYPES[kind][1])


def floats(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32).round(2).ravel().tolist()


def strange(values):
    """The same with values that are no numbers, or beyond all bounds."""
    values = values.copy()
    values[3, 0], values[4, 1], values[5, 2] = np.nan, np.inf, -np.inf
    return values


def labels(count, kind):
    names = [f"klasse {index} ž" for index in range(count)]
    return {"classlabels_strings": names} if kind == "BYTES" else {"classlabels_ints": [10 * index for index in range(count)]}


def linear_models():
    for targets, transform, intercepts in product([1, 2, 3], TRANSFORMS, [0, 1, 3]):
        attributes = {"targets": targets, "coefficients": floats(1, targets, FEATURES), "post_transform": transform}
        if intercepts:
            attributes["intercepts"] = floats(2, intercepts)
        name = f"regressor_of_{targets}_{transform}_{intercepts}"
        yield name, Case("LinearRegressor", {"X": numbers("FP32")}, [("Y", "FP32")], **attributes)
    plain = {"coefficients": floats(1, FEATURES), "intercepts": [0.5]}
    yield "regressor_strange", Case("LinearRegressor", {"X": strange(numbers("FP32"))}, [("Y", "FP32")], **plain)
    # ONNX has more types than ONNX Runtime.
    for kind in NUMBERS[1:]:
        yield f"regressor_{kind}", Case(
            "LinearRegressor", {"X": numbers(kind)}, [("Y", "FP32")], like=np.float32, **plain
        )
    for scores, transform, kind in product([1, 2, 3], TRANSFORMS, ["INT64", "BYTES"]):
        if scores == 1 and transform == "PROBIT":
            continue  # ONNX Runtime leaves a column unwritten
        attributes = {"coefficients": floats(3, scores, FEATURES), "intercepts": floats(4, scores)}
        attributes |= labels(max(scores, 2), kind) | {"post_transform": transform}
        outputs = [("label", kind), ("scores", "FP32")]
        name = f"classifier_of_{scores}_{transform}_{kind}"
        yield name, Case("LinearClassifier", {"X": numbers("FP32")}, outputs, **attributes)
    for kind in NUMBERS:
        outputs = [("label", "INT64"), ("scores", "FP32")]
        attributes = {"coefficients": floats(3, 3, FEATURES), "intercepts": floats(4, 3)} | labels(3, "INT64")
        yield f"classifier_{kind}", Case("LinearClassifier", {"X": numbers(kind)}, outputs, **attributes)


def machine(kernel, vectors, seed=0):
    params = {"LINEAR": [0, 0, 0], "POLY": [0.3, 0.5, 3], "RBF": [0.4, 0, 0], "SIGMOID": [0.2, 0.1, 0]}[kernel]
    return {
        "kernel_type": kernel,
        "kernel_params": [float(value) for value in params],
        "support_vectors": floats(seed + 10, vectors, FEATURES),
    }


def svm_classifier(kernel, classes, transform="NONE", kind="INT64", with_probabilities=False, **changes):
    sizes = [2 + index % 2 for index in range(classes)]
    pairs = classes * (classes - 1) // 2
    attributes = machine(kernel, sum(sizes)) | labels(classes, kind) | {"post_transform": transform}
    attributes |= {
        "vectors_per_class": sizes,
        "coefficients": floats(5, classes - 1, sum(sizes)),
        "rho": floats(6, pairs),
    }
    if with_probabilities:
        attributes |= {"prob_a": [-abs(value) - 0.5 for value in floats(7, pairs)], "prob_b": floats(8, pairs)}
    return attributes | changes


def support_vector_machines():
    outputs = [("label", "INT64"), ("scores", "FP32")]
    x = {"X": numbers("FP32")}
    for kernel, classes, transform, has in product(KERNELS, [2, 3, 4], TRANSFORMS, [False, True]):
        if classes == 2 and transform == "PROBIT" and not has:
            continue  # ONNX Runtime leaves a column unwritten
        attributes = svm_classifier(kernel, classes, transform, with_probabilities=has)
        yield f"svc_{kernel}_{classes}_{transform}_{has}", Case("SVMClassifier", x, outputs, **attributes)
    for kind, label, has in product(NUMBERS, ["INT64", "BYTES"], [False, True]):
        attributes = svm_classifier("RBF", 3, kind=label, with_probabilities=has)
        types = [("label", label), ("scores", "FP32")]
        yield f"svc_{kind}_{label}_{has}", Case("SVMClassifier", {"X": numbers(kind)}, types, **attributes)
    for degree in [0.0, 1.0, 2.0, 4.0]:
        attributes = svm_classifier("POLY", 3, kernel_params=[0.3, 0.5, degree])
        yield f"svc_degree_{degree}", Case("SVMClassifier", x, outputs, **attributes)
    for kernel, has in product(KERNELS, [False, True]):
        attributes = svm_classifier(kernel, 3, with_probabilities=has)
        yield f"svc_strange_{kernel}_{has}", Case(
            "SVMClassifier", {"X": strange(numbers("FP32"))}, outputs, **attributes
        )
    for classes, transform, sign, has in product([1, 2, 3], TRANSFORMS, [0, 1], [False, True]):
        coefficients = floats(9, classes, FEATURES)
        attributes = labels(classes, "INT64") | {"post_transform": transform, "kernel_params": [0.0, 0.0, 0.0]}
        attributes |= {"coefficients": [abs(value) for value in coefficients] if sign else coefficients, "rho": [0.1]}
        if has:
            attributes |= {"prob_a": [1.0], "prob_b": [0.0]}
        name = f"svc_without_vectors_{classes}_{transform}_{sign}_{has}"
        yield name, Case("SVMClassifier", x, outputs, **attributes)
    for kernel, one_class, transform in product(KERNELS, [0, 1], ["NONE", "LOGISTIC"]):
        attributes = machine(kernel, 4) | {"coefficients": floats(11, 4), "rho": [-0.2], "post_transform": transform}
        attributes |= {"n_supports": 4, "one_class": one_class}
        yield f"svr_{kernel}_{one_class}_{transform}", Case("SVMRegressor", x, [("Y", "FP32")], **attributes)
    linear = {"coefficients": floats(12, FEATURES), "rho": [0.3], "kernel_params": [0.0, 0.0, 0.0]}
    yield "svr_without_vectors", Case("SVMRegressor", x, [("Y", "FP32")], n_supports=0, **linear)
    for kind in NUMBERS[1:]:
        inputs = {"X": numbers(kind)}
        yield f"svr_{kind}", Case("SVMRegressor", inputs, [("Y", "FP32")], like=np.float32, n_supports=0, **linear)


def normalizers():
    for norm, kind in product(["MAX", "L1", "L2"], NUMBERS):
        yield f"normalizer_{norm}_{kind}", Case("Normalizer", {"X": numbers(kind)}, [("Y", "FP32")], norm=norm)
        one = {"X": numbers(kind)[0]}
        yield f"normalizer_{norm}_{kind}_list", Case("Normalizer", one, [("Y", "FP32")], norm=norm)
    for norm in ["MAX", "L1", "L2"]:
        yield f"normalizer_{norm}_strange", Case("Normalizer", {"X": strange(numbers("FP32"))}, [("Y", "FP32")], norm=norm)


def feature_operators():
    for kind, count in product(NUMBERS, [1, FEATURES]):
        attributes = {"offset": floats(13, count), "scale": floats(14, count)}
        yield f"scaler_{kind}_{count}", Case("Scaler", {"X": numbers(kind)}, [("Y", "FP32")], **attributes)
    yield "scaler_strange", Case("Scaler", {"X": strange(numbers("FP32"))}, [("Y", "FP32")], offset=[1.0], scale=[2.0])
    for kind in NUMBERS:
        # ONNX has more types than ONNX Runtime.
        like = None if kind == "FP32" else np.float32
        for threshold in [{}, {"threshold": 0.5}, {"threshold": -1.0}]:
            name = f"binarizer_{kind}_{threshold.get('threshold')}"
            yield name, Case("Binarizer", {"X": numbers(kind)}, [("Y", kind)], like=like, **threshold)
    for count, missing in product([1, FEATURES], [0.0, -2.0, float("nan")]):
        attributes = {"imputed_value_floats": floats(15, count), "replaced_value_float": missing}
        yield f"imputer_{count}_{missing}", Case("Imputer", {"X": strange(numbers("FP32"))}, [("Y", "FP32")], **attributes)
    for count, missing in product([1, FEATURES], [0, -2]):
        attributes = {"imputed_value_int64s": [7, 8, 9][:count], "replaced_value_int64": missing}
        yield f"imputer_{count}_{missing}_whole", Case("Imputer", {"X": numbers("INT64")}, [("Y", "INT64")], **attributes)
    for kind, shape in product([*NUMBERS, "BYTES"], [(FEATURES,), (6, FEATURES), (2, 3, FEATURES)]):
        inputs = {"X": numbers("INT64", shape).astype(str).astype(object) if kind == "BYTES" else numbers(kind, shape)}
        for indices in [[0], [2, 0, 2], [[1, 2]]]:
            name = f"extractor_{kind}_{len(shape)}_{np.array(indices).size}"
            yield name, Case("ArrayFeatureExtractor", inputs, [("Y", kind)], constants={"I": np.int64(indices)})
    for kind in NUMBERS:
        inputs = {"A": numbers(kind), "B": numbers(kind, (6, 2), 1), "C": numbers(kind, (6, 2, 2), 2)}
        for widths in [[3, 2, 4], [2, 1, 1], [4, 3, 6], [0, 2, 0]]:
            name = f"vectorizer_{kind}_{'_'.join(map(str, widths))}"
            yield name, Case("FeatureVectorizer", inputs, [("Y", "FP32")], inputdimensions=widths)
    lists = {"A": numbers("FP32", (3,)), "B": numbers("FP32", (2,))}
    yield "vectorizer_lists", Case("FeatureVectorizer", lists, [("Y", "FP32")], inputdimensions=[3, 4])


def texts(shape):
    values = np.random.default_rng(3).choice(["red", "green", "blau ž", "", "unknown"], shape)
    return values.astype(object)


def one_hot():
    for kind in NUMBERS:
        like = np.int64 if kind == "INT32" else None  # ONNX Runtime has no INT32 here
        for shape in [(6,), (6, FEATURES)]:
            inputs = {"X": numbers(kind, shape)}
            name = f"one_hot_{kind}_{len(shape)}"
            yield name, Case("OneHotEncoder", inputs, [("Y", "FP32")], like=like, cats_int64s=[0, 1, -2, 1, 4])
    inputs = {"X": strange(numbers("FP32"))}
    yield "one_hot_strange", Case("OneHotEncoder", inputs, [("Y", "FP32")], cats_int64s=[0, 1, -2])
    inputs = {"X": texts((6, 2))}
    yield "one_hot_texts", Case("OneHotEncoder", inputs, [("Y", "FP32")], cats_strings=["green", "", "red"])
    known = {"X": np.array([["a"], ["b"]], object)}
    yield "one_hot_known", Case("OneHotEncoder", known, [("Y", "FP32")], cats_strings=["a", "b"], zeros=0)


KEYS = {
    "BYTES": ["red", "", "blau ž", "red"],
    "INT64": [0, -2, 3, 0],
    "FP32": [0.0, -2.0, 1.5, 0.0],
    "FP64": [0.0, -2.0, 1.5, 0.0],
}
VALUES = {
    "BYTES": ["eins", "zwei", "", "drei"],
    "INT64": [4, -3, 2**40, 5],
    "FP32": [0.5, -1.5, 3.0, 2.5],
    "FP64": [0.5, -1.5, 1e100, 2.5],
    "INT16": [4, -3, 300, 5],
}
LISTS = {"BYTES": "strings", "INT64": "int64s", "FP32": "floats"}
DEFAULTS = {"BYTES": ("default_string", "none"), "INT64": ("default_int64", 99), "FP32": ("default_float", 9.5)}
# What ONNX Runtime has of version 4.
TENSORS = [
    *product(["INT64", "FP32", "BYTES"], ["INT64", "FP32", "BYTES"]),
    ("BYTES", "INT16"),
    ("FP64", "FP64"),
    ("FP64", "BYTES"),
    ("BYTES", "FP64"),
]


def tensor(name, values, kind):
    values = [value.encode() if kind == "BYTES" else value for value in values]
    return helper.make_tensor(name, TYPES[kind][0], [len(values)], values)


def unlabelled(kind, shape):
    if kind == "BYTES":
        return texts(shape)
    values = numbers(kind, shape)
    if kind.startswith("FP"):
        values[0, 0], values[3, 1] = np.nan, np.inf
    return values


def label_encoders():
    for (key, value), opset, with_default in product(product(LISTS, LISTS), [2, 3, 4], [False, True]):
        attributes = {f"keys_{LISTS[key]}": KEYS[key], f"values_{LISTS[value]}": VALUES[value]}
        attributes |= dict([DEFAULTS[value]] if with_default else [])
        inputs = {"X": unlabelled(key, (6, 2))}
        name = f"labels_{opset}_{key}_{value}_{with_default}"
        yield name, Case("LabelEncoder", inputs, [("Y", value)], opset=opset, **attributes)
    for opset in [2, 4]:
        inputs = {"X": unlabelled("FP32", (6, 2))}
        attributes = {"keys_floats": [float("nan"), 0.0], "values_int64s": [1, 2]}
        yield f"labels_{opset}_nan", Case("LabelEncoder", inputs, [("Y", "INT64")], opset=opset, **attributes)
    for (key, value), with_default in product(TENSORS, [False, True]):
        attributes = {"keys_tensor": tensor("k", KEYS[key], key), "values_tensor": tensor("v", VALUES[value], value)}
        if with_default:
            attributes["default_tensor"] = tensor("d", VALUES[value][2:3], value)
        inputs = {"X": unlabelled(key, (6, 2))}
        name = f"label_tensors_{key}_{value}_{with_default}"
        yield name, Case("LabelEncoder", inputs, [("Y", value)], opset=4, **attributes)
    for key, value in [("BYTES", "INT64"), ("INT64", "BYTES")]:
        inputs = {"X": unlabelled(key, (6, 2))}
        for default in [{}, {"default_string": "none", "default_int64": 77}]:
            first = {"classes_strings": ["red", "", "blau ž", "red"], **default}
            name = f"{key}_{len(default)}"
            yield f"labels_1_{name}", Case("LabelEncoder", inputs, [("Y", value)], opset=1, **first)
            categories = {"cats_strings": KEYS["BYTES"], "cats_int64s": KEYS["INT64"], **default}
            yield f"categories_{name}", Case("CategoryMapper", inputs, [("Y", value)], **categories)


CASES = dict(
    case
    for cases in [linear_models, support_vector_machines, normalizers, feature_operators, one_hot, label_encoders]
    for case in cases()
)


@pytest.fixture(scope="module")
def operators(tmp_path_factory):
    with agreement.serving(tmp_path_factory, {name: case.model for name, case in CASES.items()}) as running:
        yield running


@pytest.mark.parametrize("name", CASES)
def test_operators_answer_like_onnx_runtime(operators, session, name):
    CASES[name].check(operators, session, name)
