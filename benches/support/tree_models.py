"""Trains the tree ensembles that the bench of trees compares, and writes them as ONNX: tree_models.py FOLDER

Real trees on noisy data of 30 features, in the layout that skl2onnx gives them; written from numpy's arrays since
converting millions of nodes one by one would take an hour. Each model is trained once with 500 trees; the smaller ones
are its first 100 and 200.
"""

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from sklearn import ensemble, tree

FEATURES, SAMPLES, ROWS = 30, 6000, 4096
DEPTHS, COUNTS, CLASSES = [4, 8, 16], [100, 200, 500], 5


def data():
    """Training rows, and a target that is smooth but for noise, so that deep trees find something to split."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(SAMPLES, FEATURES)).astype(np.float32)
    target = rows[:, :10] @ random.normal(size=10) + np.sin(3 * rows[:, 10]) * 3 + random.normal(size=SAMPLES)
    return rows, target, random.normal(size=(ROWS, FEATURES)).astype(np.float32)


def trained(depth):
    """The models of this depth by name: (operator, trees, weight of a tree's leaf, base values, transform, classes)."""
    rows, target, _ = data()
    binary, many = target > 0, np.digitize(target, np.quantile(target, [0.2, 0.4, 0.6, 0.8]))
    most = max(COUNTS)
    forest = {"max_depth": depth, "max_features": 6, "random_state": 0}
    boosted = {"max_depth": depth, "max_features": 6, "subsample": 0.5, "random_state": 0, "learning_rate": 0.05}
    for name, classes, values in [("forest_2", 2, binary), ("forest_5", CLASSES, many)]:
        model = ensemble.RandomForestClassifier(most, **forest).fit(rows, values)
        yield name, [(tree, 0) for tree in model.estimators_], classes, [], "NONE"
    model = ensemble.RandomForestRegressor(most, **forest).fit(rows, target)
    yield "forest_values", [(tree, 0) for tree in model.estimators_], 0, [], "NONE"
    model = ensemble.GradientBoostingClassifier(n_estimators=most, **boosted).fit(rows, binary)
    yield "boosted_2", [(tree, 0) for tree in model.estimators_[:, 0]], 2, [0.1], "LOGISTIC"
    model = ensemble.GradientBoostingClassifier(n_estimators=most // CLASSES, **boosted).fit(rows, many)
    trees = [(tree, number) for stage in model.estimators_ for number, tree in enumerate(stage)]
    yield f"boosted_{CLASSES}", trees, CLASSES, [0.1] * CLASSES, "SOFTMAX"
    model = ensemble.GradientBoostingRegressor(n_estimators=most, **boosted).fit(rows, target)
    yield "boosted_values", [(tree, 0) for tree in model.estimators_[:, 0]], 0, [0.1], "NONE"


def leaf_votes(name, grown, leaves, target, classes, count):
    """What each leaf says: columns of targets and of weights."""
    values = grown.value[leaves, 0, :]
    if name.startswith("boosted"):
        return np.full((len(leaves), 1), target), 0.05 * values
    if classes == 2:
        return np.zeros((len(leaves), 1), int), values[:, 1:] / count
    return np.tile(np.arange(values.shape[1]), (len(leaves), 1)), values / count


def to_onnx(name, trees, classes, base, transform):
    prefix = "class" if classes else "target"
    nodes = {key: [] for key in ["treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids"]}
    votes = {key: [] for key in ["treeids", "nodeids", "ids", "weights"]}
    for number, (estimator, target) in enumerate(trees):
        grown = estimator.tree_
        leaf = grown.children_left < 0
        nodes["treeids"].append(np.full(grown.node_count, number))
        nodes["nodeids"].append(np.arange(grown.node_count))
        nodes["featureids"].append(np.where(leaf, 0, grown.feature))
        nodes["values"].append(np.where(leaf, 0, grown.threshold).astype(np.float32))
        nodes["modes"].append(np.where(leaf, "LEAF", "BRANCH_LEQ"))
        nodes["truenodeids"].append(np.where(leaf, 0, grown.children_left))
        nodes["falsenodeids"].append(np.where(leaf, 0, grown.children_right))
        leaves = np.flatnonzero(leaf)
        targets, weights = leaf_votes(name, grown, leaves, target, classes, len(trees))
        votes["treeids"].append(np.full(targets.size, number))
        votes["nodeids"].append(np.repeat(leaves, targets.shape[1]))
        votes["ids"].append(targets.ravel())
        votes["weights"].append(weights.ravel().astype(np.float32))
    attributes = {f"nodes_{key}": np.concatenate(values).tolist() for key, values in nodes.items()}
    attributes["nodes_missing_value_tracks_true"] = [0] * len(attributes["nodes_treeids"])
    attributes |= {f"{prefix}_{key}": np.concatenate(values).tolist() for key, values in votes.items()}
    attributes |= {"classlabels_int64s": [*range(classes)]} if classes else {"n_targets": 1}
    attributes |= {"base_values": base} if base else {}
    operator = "TreeEnsembleClassifier" if classes else "TreeEnsembleRegressor"
    labels = [helper.make_tensor_value_info("label", TensorProto.INT64, ["rows"])] if classes else []
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", classes or 1])
    outputs = [*labels, scores]
    node = helper.make_node(
        operator, ["X"], [output.name for output in outputs],
        domain="ai.onnx.ml", post_transform=transform, **attributes,
    )  # fmt: skip
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["rows", FEATURES])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(helper.make_graph([node], name, [x], outputs), opset_imports=opsets, ir_version=8)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "done"
    if done.exists() and done.stat().st_mtime > Path(__file__).stat().st_mtime:
        return
    rows, target, asked = data()
    asked.tofile(folder / "rows.f32")
    stump = tree.DecisionTreeRegressor(max_depth=1).fit(rows, target)
    (folder / "stump.onnx").write_bytes(to_onnx("forest_values", [(stump, 0)], 0, [], "NONE").SerializeToString())
    for depth in DEPTHS:
        for name, trees, *rest in trained(depth):
            for count in COUNTS:
                model = to_onnx(name, trees[:count], *rest)
                (folder / f"{name}-{count}-{depth}.onnx").write_bytes(model.SerializeToString())
    done.touch()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
