"""Tree ensembles, by our own operators: scikit-learn's models and synthetic ones, against ONNX Runtime."""

import random
from itertools import product

import agreement
import numpy as np
import pytest
from onnx import TensorProto, helper
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


def model(operator, outputs, **attributes):
    node = helper.make_node(operator, ["X"], [name for name, *_ in outputs], domain="ai.onnx.ml", **attributes)
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["rows", FEATURES])
    infos = [helper.make_tensor_value_info(*output) for output in outputs]
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    return helper.make_model(helper.make_graph([node], operator, [x], infos), opset_imports=opsets, ir_version=8)


def synthetic():
    """Every mode, transform, aggregate and way to vote for classes, but for the few that ONNX Runtime leaves open:
    two classes whose leaves vote for both (it takes the second class whenever its score is positive), and PROBIT of
    a single score (it writes one of two)."""
    rows = np.random.default_rng(0).uniform(-1, 1, (40, FEATURES)).astype(np.float32).round(1)
    rows[[3, 7], [1, 0]] = np.nan
    votes = {"first": lambda _: [0], "second": lambda _: [1], "all": lambda _: range(3), "mixed": lambda leaf: [leaf % 3]}
    cases = product(TRANSFORMS, votes.items(), [2, 3], [0, -1], [False, True])
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


MODELS = {name: (model, {"X": rows}) for name, model, rows in [*trained(), *synthetic()]}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    with agreement.serving(tmp_path_factory, {name: model for name, (model, _) in MODELS.items()}) as running:
        yield running


@pytest.mark.parametrize("name", MODELS)
def test_trees_answer_like_onnx_runtime(trees, session, name):
    agreement.check(trees, session, name, *MODELS[name])
