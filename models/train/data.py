"""The data of the models, split once and for all.

Training and the tests import the same split, so that no held-out row was ever trained on.
"""

import numpy as np
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.model_selection import train_test_split

# The wines that the classes 0, 1 and 2 are, which scikit-learn leaves unnamed, in the order of the
# data's source: 59, 71 and 48 wines.
WINES = np.array(["Barolo", "Grignolino", "Barbera"])


def _whole(name):
    if name == "iris":
        features, labels = load_iris(return_X_y=True)
    elif name == "digits":
        features, labels = load_digits(return_X_y=True)
        features = features.reshape(-1, 1, 8, 8)  # one grey channel, as the model's input has it
    elif name == "wine":
        features, classes = load_wine(return_X_y=True)
        labels = WINES[classes]
    else:
        raise ValueError(f"no data set {name!r}; there are iris, digits and wine")
    return features.astype(np.float32), labels


def _split(name):
    features, labels = _whole(name)
    # A fifth is held out, with the same share of every class; the seed fixes rows and order.
    return train_test_split(features, labels, test_size=0.2, random_state=0, stratify=labels)


def training(name):
    """(features float32, labels): the rows that the models are trained on."""
    train_x, _, train_y, _ = _split(name)
    return train_x, train_y


def held_out(name):
    """(features float32, labels): the rows that no model has seen."""
    _, test_x, _, test_y = _split(name)
    return test_x, test_y
