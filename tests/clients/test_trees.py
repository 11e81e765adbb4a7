"""Tree ensembles, by our own operators: scikit-learn's models and synthetic ones, against ONNX Runtime.

Where ONNX Runtime has no answer (half precision) or one that contradicts the operator's documentation (two classes whose
leaves vote for both), onnx's reference evaluator is asked instead.
"""

import random
from itertools import product

import agreement
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator
from skl2onnx import to_onnx
from sklearn import datasets, ensemble, tree

OPSETS = {"": 17, "ai.onnx.ml": 3}
MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]
FEATURES = 3

CLASSIFIERS = [
    tree.DecisionTreeClassifier(max_depth=5, random_state=0),
    ensemble.RandomForestClassifier(50, random_state=0),
    ensemble.ExtraTreesClassifier(20, random_state=0),
    ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0),
    ensemble.BaggingClassifier(random_state=0),
    ensemble.AdaBoostClassifier(n_estimators=5, random_state=0),
]
REGRESSORS = [
    tree.DecisionTreeRegressor(max_depth=5, random_state=0),
    ensemble.RandomForestRegressor(50, random_state=0),
    ensemble.ExtraTreesRegressor(20, random_state=0),
    ensemble.GradientBoostingRegressor(n_estimators=20, random_state=0),
]


def trained():
    """scikit-learn's models by name, each with the rows it is asked about."""
    features, classes = datasets.load_breast_cancer(return_X_y=True)
    names = np.array(["malignant", "benign"])[classes]
    data = {"binary": (features, classes), "text": (features, names), "wine": datasets.load_wine(return_X_y=True)}
    for (kind, (features, classes)), model in product(data.items(), CLASSIFIERS):
        rows = features.astype(np.float32)
        fitted = model.fit(features, classes)
        yield f"{kind}_{type(model).__name__}", to_onnx(fitted, rows[:1], options={"zipmap": False}, target_opset=OPSETS), rows
    features, values = datasets.load_diabetes(return_X_y=True)
    for model in REGRESSORS:
        rows = features.astype(np.float32)
        yield type(model).__name__, to_onnx(model.fit(features, values), rows[:1], target_opset=OPSETS), rows


def with_float_scores(model):
    """skl2onnx declares scores in double precision, which the operators do not give and ONNX Runtime refuses."""
    for output in model.graph.output:
        if output.type.tensor_type.elem_type == TensorProto.DOUBLE:
            output.type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def trained_in_double():
    """The same in double precision: thresholds and weights are then tensors."""
    features, classes = datasets.load_wine(return_X_y=True)
    for model in CLASSIFIERS[:4]:
        fitted = model.fit(features, classes)
        exported = to_onnx(fitted, features[:1], options={"zipmap": False}, target_opset=OPSETS)
        yield f"double_{type(model).__name__}", with_float_scores(exported), features
    features, values = datasets.load_diabetes(return_X_y=True)
    for model in REGRESSORS:
        exported = to_onnx(model.fit(features, values), features[:1], target_opset=OPSETS)
        yield f"double_{type(model).__name__}", with_float_scores(exported), features


class Trees:
    """Random full trees, as the attributes of a node, and their leaves."""

    def __init__(self, seed, count, depth):
        self.random = random.Random(seed)
        self.attributes = {
            f"nodes_{name}": []
            for name in [
                "treeids", "nodeids", "featureids", "values", "modes",
                "truenodeids", "falsenodeids", "missing_value_tracks_true",
            ]
        }  # fmt: skip
        self.leaves = []
        for number, node in product(range(count), range(2 ** (depth + 1) - 1)):
            if node >= 2**depth - 1:
                self.add(number, node, 0, 0.0, "LEAF", 0, 0, 0)
                self.leaves.append((number, node))
            else:
                threshold = round(self.random.uniform(-1, 1), 1)
                feature, mode = self.random.randrange(FEATURES), self.random.choice(MODES)
                self.add(number, node, feature, threshold, mode, 2 * node + 1, 2 * node + 2, self.random.randrange(2))

    def add(self, *values):
        for attribute, value in zip(self.attributes.values(), values, strict=True):
            attribute.append(value)

    def votes(self, prefix, targets_of, least):
        """The attributes of the leaves' votes; targets_of(index of a leaf) are those that it votes for."""
        votes = [(*leaf, target) for index, leaf in enumerate(self.leaves) for target in targets_of(index)]
        trees, nodes, targets = zip(*votes, strict=True)
        weights = [round(self.random.uniform(least, 1) / 3, 3) for _ in votes]
        names = ["treeids", "nodeids", "ids", "weights"]
        return {f"{prefix}_{name}": values for name, values in zip(names, [trees, nodes, targets, weights], strict=True)}

    def base(self, count):
        return {"base_values": [round(self.random.uniform(-0.3, 0.3), 2) for _ in range(count)]} if count else {}


def model(operator, outputs, dtype=TensorProto.FLOAT, version=3, **attributes):
    node = helper.make_node(operator, ["X"], [name for name, *_ in outputs], domain="ai.onnx.ml", **attributes)
    x = helper.make_tensor_value_info("X", dtype, ["rows", FEATURES])
    infos = [helper.make_tensor_value_info(*output) for output in outputs]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(helper.make_graph([node], operator, [x], infos), opset_imports=opsets, ir_version=8)


def some_rows(dtype=np.float32):
    """Rows of few different values, some of them missing."""
    rows = np.random.default_rng(0).uniform(-1, 1, (40, FEATURES)).round(1).astype(dtype)
    if rows.dtype.kind == "f":
        rows[[3, 7], [1, 0]] = np.nan
    return rows


VOTES = {"first": lambda _: [0], "second": lambda _: [1], "all": lambda _: range(3), "mixed": lambda leaf: [leaf % 3]}


def synthetic():
    """Every mode, transform, aggregate and way to vote for classes, but for the few that ONNX Runtime leaves open:
    two classes whose leaves vote for both (it takes the second class whenever its score is positive), and PROBIT of
    a single score (it writes one of two)."""
    rows = some_rows()
    cases = product(TRANSFORMS, VOTES.items(), [2, 3], [0, -1], [False, True])
    for seed, (transform, (way, targets), classes, least, with_base) in enumerate(cases):
        if classes == 2 and (way in ("all", "mixed") or transform in ("PROBIT", "SOFTMAX_ZERO")):
            continue
        trees = Trees(seed, count=3, depth=2)
        outputs = [("label", TensorProto.INT64, ["rows"]), ("scores", TensorProto.FLOAT, ["rows", classes])]
        attributes = trees.attributes | trees.votes("class", targets, least) | trees.base(classes * with_base)
        attributes |= {"classlabels_int64s": [*range(classes)], "post_transform": transform}
        name = f"{way}_of_{classes}_from_{least}_{transform}_{with_base}"
        yield name, model("TreeEnsembleClassifier", outputs, **attributes), rows
    for seed, (transform, aggregate, targets, with_base) in enumerate(
        product(TRANSFORMS, ["SUM", "AVERAGE", "MIN", "MAX"], [1, 3], [False, True])
    ):
        trees = Trees(seed, count=4, depth=2)
        attributes = trees.attributes | trees.base(targets * with_base)
        attributes |= trees.votes("target", lambda leaf, targets=targets: [leaf % targets], 0)
        attributes |= {"n_targets": targets, "aggregate_function": aggregate, "post_transform": transform}
        name = f"{aggregate}_of_{targets}_{transform}_{with_base}"
        outputs = [("variable", TensorProto.FLOAT, ["rows", targets])]
        yield name, model("TreeEnsembleRegressor", outputs, **attributes), rows


TYPES = {"int64": TensorProto.INT64, "int32": TensorProto.INT32, "float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16}
TYPES |= {"float32": TensorProto.FLOAT}


def synthetic_of_other_types():
    """Rows of whole numbers and in double precision; for these, attributes of both precisions."""
    for seed, (dtype, as_tensor, way) in enumerate(product(["int64", "int32", "float64"], [False, True], ["second", "mixed"])):
        if as_tensor and dtype != "float64":
            continue  # ONNX Runtime wants the attributes of the same precision as the input
        trees = Trees(seed, count=9, depth=4)
        for prefix, operator in [("class", "TreeEnsembleClassifier"), ("target", "TreeEnsembleRegressor")]:
            if prefix == "target" and dtype.startswith("int"):
                continue  # ONNX Runtime has no regressor of whole numbers
            attributes = trees.attributes | trees.votes(prefix, VOTES[way], 0) | trees.base(3)
            if as_tensor:
                for name in ["nodes_values", f"{prefix}_weights", "base_values"]:
                    # A tenth, as it is in double precision.
                    values = np.array(attributes.pop(name)).round(3)
                    attributes[f"{name}_as_tensor"] = numpy_helper.from_array(values)
            attributes |= {"classlabels_strings": ["a", "b", "c"]} if prefix == "class" else {"n_targets": 3}
            labels = [("label", TensorProto.STRING, ["rows"])] if prefix == "class" else []
            outputs = [*labels, ("scores", TensorProto.FLOAT, ["rows", 3])]
            name = f"{prefix}_{way}_{dtype}_{'tensor' if as_tensor else 'list'}"
            yield name, model(operator, outputs, TYPES[dtype], **attributes), some_rows(dtype)


def set_as_a_chain():
    """Is the feature 2, 3 or 5? A chain of equalities that share the node on true, as LightGBM's categories come out."""
    return {
        "nodes_treeids": [0] * 5,
        "nodes_nodeids": [0, 1, 2, 3, 4],
        "nodes_featureids": [1, 1, 1, 0, 0],
        "nodes_values": [2.0, 3.0, 5.0, 0.0, 0.0],
        "nodes_modes": ["BRANCH_EQ"] * 3 + ["LEAF"] * 2,
        "nodes_truenodeids": [3, 3, 3, 0, 0],
        "nodes_falsenodeids": [1, 2, 4, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [3, 4],
        "target_ids": [0, 0],
        "target_weights": [1.5, -2.5],
        "n_targets": 1,
    }


def sets():
    rows = np.repeat(np.arange(-1, 8, dtype=np.float32)[:, None], FEATURES, axis=1)
    rows[0] = np.nan
    output = ("variable", TensorProto.FLOAT, ["rows", 1])
    yield "set_as_a_chain", model("TreeEnsembleRegressor", [output], **set_as_a_chain()), rows


def version_5(seed, dtype, targets, aggregate=1, transform=0, depth=3, member_step=1):
    """Random trees as the operator TreeEnsemble has them: branches and leaves apart, sets among the modes."""
    chance, kind, count = random.Random(seed), np.dtype(dtype), 8
    branches, leaves = 2**depth - 1, 2**depth
    numbers = range(count * branches)
    first_leaf = [branch - (branch % branches) for branch in numbers]
    inner = [branch % branches < 2 ** (depth - 1) - 1 for branch in numbers]

    def child(branch, side):
        inside = 2 * (branch % branches) + side
        return first_leaf[branch] + inside if inner[branch] else branch // branches * leaves + inside - branches

    modes = np.array([chance.randrange(7) for _ in numbers], np.uint8)
    members = [[chance.randrange(1, 5) * member_step for _ in range(3)] + [np.nan] for mode in modes if mode == 6]
    attributes = {
        "n_targets": targets,
        "aggregate_function": aggregate,
        "post_transform": transform,
        "tree_roots": [tree * branches for tree in range(count)],
        "nodes_featureids": [chance.randrange(FEATURES) for _ in numbers],
        "nodes_modes": numpy_helper.from_array(modes),
        "nodes_splits": numpy_helper.from_array(np.array([chance.randrange(-8, 9) / 2 for _ in numbers], kind)),
        "nodes_truenodeids": [child(branch, 1) for branch in numbers],
        "nodes_falsenodeids": [child(branch, 2) for branch in numbers],
        "nodes_trueleafs": [int(not inner[branch]) for branch in numbers],
        "nodes_falseleafs": [int(not inner[branch]) for branch in numbers],
        "nodes_missing_value_tracks_true": [chance.randrange(2) for _ in numbers],
        "membership_values": numpy_helper.from_array(np.array(sum(members, []), kind)),
        "leaf_targetids": [chance.randrange(targets) for _ in range(count * leaves)],
        "leaf_weights": numpy_helper.from_array(np.array([chance.random() / 8 for _ in range(count * leaves)], kind)),
    }
    output = ("Y", TYPES[dtype], ["rows", targets])
    return model("TreeEnsemble", [output], TYPES[dtype], 5, **attributes)


def rows_of_halves(dtype):
    return (some_rows(dtype) * 8).round() / np.dtype(dtype).type(2)


def newest():
    for seed, (dtype, targets, aggregate) in enumerate(product(["float32", "float64"], [1, 3], range(4))):
        yield f"version_5_{dtype}_{targets}_{aggregate}", version_5(seed, dtype, targets, aggregate), rows_of_halves(dtype)
    for name, transform in [("SOFTMAX_ZERO", 3), ("PROBIT", 4)]:
        yield f"version_5_{name}", version_5(9, "float32", 2, transform=transform), rows_of_halves("float32")


MADE = [*trained(), *trained_in_double(), *synthetic(), *synthetic_of_other_types(), *sets(), *newest()]
MODELS = {name: (model, {"X": rows}) for name, model, rows in MADE}



def both_of_two():
    """Two classes, and every leaf votes for both."""
    trees = Trees(1, count=3, depth=2)
    outputs = [("label", TensorProto.INT64, ["rows"]), ("scores", TensorProto.FLOAT, ["rows", 2])]
    attributes = trees.attributes | trees.votes("class", lambda _: [0, 1], 0)
    return model("TreeEnsembleClassifier", outputs, classlabels_int64s=[0, 1], **attributes)


REFERENCE = {
    "both_of_two": (both_of_two(), {"X": np.nan_to_num(some_rows())}),
    "version_5_float16": (version_5(5, "float16", 2, depth=1), {"X": rows_of_halves("float16")}),
    # ONNX Runtime knows sets of whole numbers alone; the evaluator takes sets in another order in deeper trees.
    "version_5_fractions": (version_5(5, "float32", 1, depth=1, member_step=0.5), {"X": rows_of_halves("float32")}),
}
# ONNX Runtime takes 1 for LOGISTIC and 2 for SOFTMAX, and the operator's documentation the other way round.
SWAPPED = {f"version_5_{name}": number for name, number in [("SOFTMAX", 1), ("LOGISTIC", 2)]}
with np.errstate(all="ignore"):
    NODE_TESTS = {case.name: case for case in collect_testcases(None) if "tree_ensemble" in case.name}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    models = {name: model for name, (model, _) in [*MODELS.items(), *REFERENCE.items()]}
    models |= {name: case.model for name, case in NODE_TESTS.items()}
    with agreement.serving(tmp_path_factory, models) as running:
        yield running


@pytest.mark.parametrize("name", MODELS)
def test_trees_answer_like_onnx_runtime(trees, session, name):
    agreement.check(trees, session, name, *MODELS[name])


@pytest.mark.parametrize("name", REFERENCE)
def test_trees_answer_like_the_reference_evaluator(trees, session, name):
    model, inputs = REFERENCE[name]
    agreement.compare(trees, session, name, inputs, ReferenceEvaluator(model).run(None, inputs), tolerance=1e-3)


@pytest.fixture(scope="module")
def documented(tmp_path_factory):
    """With ONNX Runtime beside it, `auto` refuses what the two number differently."""
    models = {name: version_5(9, "float32", 2, transform=number) for name, number in SWAPPED.items()}
    with agreement.serving(tmp_path_factory, models, ONNXD_INFERENCE__ENGINE="tract") as running:
        yield running


@pytest.mark.parametrize("name", SWAPPED)
def test_transforms_are_numbered_as_documented(documented, session, name):
    other = version_5(9, "float32", 2, transform=3 - SWAPPED[name])
    agreement.check(documented, session, name, other, {"X": rows_of_halves("float32")})


@pytest.mark.parametrize("name", NODE_TESTS)
def test_trees_pass_the_node_tests_of_onnx(trees, session, name):
    case = NODE_TESTS[name]
    for inputs, outputs in case.data_sets:
        named = {info.name: values for info, values in zip(case.model.graph.input, inputs, strict=True)}
        agreement.compare(trees, session, name, named, outputs)


def test_there_are_node_tests_of_onnx():
    assert len(NODE_TESTS) >= 2
