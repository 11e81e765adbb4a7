"""Trains and exports both versions of the iris model: python models/train/iris.py"""

import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from data import training
from export import OPSET, output_folder, report, save


def convert(classifier):
    return to_onnx(
        classifier,
        initial_types=[("features", FloatTensorType([None, 4]))],
        target_opset={"": OPSET, "ai.onnx.ml": 1},
        options={"zipmap": False},  # a plain tensor of probabilities, not a list of maps
    )


def plain_operators(model):
    """Cuts what skl2onnx puts around a neural network and what only some engines can run.

    It looks the ArgMax up in the list of classes (ArrayFeatureExtractor), reshapes and casts.
    The classes are 0, 1, 2 in order, so that look-up changes nothing: the ArgMax is the label.
    The Cast of the input and the Identity before the output change nothing either.
    `report` checks the outputs of the graph that is left.
    """
    graph = model.graph
    classes = next(value for value in graph.initializer if value.name == "classes")
    assert onnx.numpy_helper.to_array(classes).tolist() == [0, 1, 2]

    argmax = next(node for node in graph.node if node.op_type == "ArgMax")
    del argmax.attribute[:]
    argmax.attribute.extend(
        [onnx.helper.make_attribute("axis", 1), onnx.helper.make_attribute("keepdims", 0)]
    )
    argmax.output[0] = "label"

    softmax = next(node for node in graph.node if node.op_type == "Softmax")
    softmax.output[0] = "probabilities"
    # Said aloud, since the default was another one before opset 13.
    del softmax.attribute[:]
    softmax.attribute.append(onnx.helper.make_attribute("axis", 1))

    next(node for node in graph.node if node.op_type == "MatMul").input[0] = "features"

    kept = [n for n in graph.node if n.op_type in {"MatMul", "Add", "Relu", "Softmax", "ArgMax"}]
    read = {name for node in kept for name in node.input}
    weights = [value for value in graph.initializer if value.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(weights)
    return model


def main():
    repository = output_folder(__doc__)
    features, labels = training("iris")
    versions = {
        1: LogisticRegression(max_iter=1000),
        # lbfgs suits so few rows and has no mini-batches to shuffle; alpha keeps the
        # probabilities from all being 0 or 1.
        2: MLPClassifier((16,), solver="lbfgs", alpha=0.1, max_iter=2000, random_state=0),
    }
    for version, classifier in versions.items():
        classifier.fit(features, labels)
        model = convert(classifier)
        if version == 2:
            model = plain_operators(model)
        report(
            save(model, repository, "iris", version),
            lambda rows: (classifier.predict(rows), classifier.predict_proba(rows)),
        )


if __name__ == "__main__":
    main()
