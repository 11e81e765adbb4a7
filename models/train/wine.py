"""Trains and exports the wine model: python models/train/wine.py"""

from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier

from data import training
from export import OPSET, output_folder, report, save


def main():
    repository = output_folder(__doc__)
    features, labels = training("wine")
    # Shallow trees, each of which sees some of the rows: with so few, deeper ones learn by heart.
    classifier = GradientBoostingClassifier(max_depth=2, subsample=0.7, random_state=0)
    classifier.fit(features, labels)
    model = to_onnx(
        classifier,
        initial_types=[("features", FloatTensorType([None, features.shape[1]]))],
        target_opset={"": OPSET, "ai.onnx.ml": 1},
        options={"zipmap": False},  # a plain tensor of probabilities, not a list of maps
    )
    report(
        save(model, repository, "wine", 1),
        lambda rows: (classifier.predict(rows), classifier.predict_proba(rows)),
    )


if __name__ == "__main__":
    main()
