"""LightGBM's and XGBoost's models through onnxmltools, against ONNX Runtime, on the data that scikit-learn ships."""

import agreement
import lightgbm
import numpy as np
import pytest
import xgboost
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn import datasets

OPSET = 15
LIGHT = {"n_estimators": 10, "verbose": -1, "n_jobs": 1, "random_state": 0}
EXTREME = {"n_estimators": 10, "n_jobs": 1, "random_state": 0}


def two():
    return datasets.load_breast_cancer(return_X_y=True)


def three():
    return datasets.load_wine(return_X_y=True)


def three_texts():
    features, classes = three()
    return features, np.array(["red", "white", "rosé"])[classes]


def ten():
    return datasets.load_digits(return_X_y=True)


def values():
    return datasets.load_diabetes(return_X_y=True)


def categories():
    """Diabetes with two columns of categories: the sex, and the decade of life."""
    features, progress = values()
    ages = datasets.load_diabetes(scaled=False).data[:, 0]
    return np.column_stack([features[:, 2:], features[:, 1] > 0, ages // 10]), progress


def missing():
    """Wine with holes."""
    features, classes = three()
    features[np.random.default_rng(0).random(features.shape) < 0.1] = np.nan
    return features, classes


# The models, each with its data and what fitting and converting are told beyond it.
LIGHTGBM = {
    "binary": (lightgbm.LGBMClassifier(**LIGHT), two, {}, {"zipmap": False}),
    "multiclass": (lightgbm.LGBMClassifier(**LIGHT), three, {}, {"zipmap": False}),
    "multiclass_map": (lightgbm.LGBMClassifier(**LIGHT), three, {}, {}),
    "multiclass_texts": (lightgbm.LGBMClassifier(**LIGHT), three_texts, {}, {"zipmap": False}),
    "multiclass_texts_map": (lightgbm.LGBMClassifier(**LIGHT), three_texts, {}, {}),
    "digits": (lightgbm.LGBMClassifier(**LIGHT), ten, {}, {"zipmap": False}),
    "missing": (lightgbm.LGBMClassifier(**LIGHT), missing, {}, {"zipmap": False}),
    "dart": (lightgbm.LGBMClassifier(boosting_type="dart", **LIGHT), three, {}, {"zipmap": False}),
    "forest": (
        lightgbm.LGBMClassifier(boosting_type="rf", bagging_freq=1, bagging_fraction=0.7, **LIGHT),
        two,
        {},
        {"zipmap": False},
    ),
    "regression": (lightgbm.LGBMRegressor(**LIGHT), values, {}, {}),
    "regression_poisson": (lightgbm.LGBMRegressor(objective="poisson", **LIGHT), values, {}, {}),
    "regression_categories": (
        lightgbm.LGBMRegressor(min_data_per_group=5, cat_smooth=1, **LIGHT),
        categories,
        {"categorical_feature": [8, 9]},
        {},
    ),
}
XGBOOST = {
    "binary": (xgboost.XGBClassifier(**EXTREME), two),
    "multiclass": (xgboost.XGBClassifier(**EXTREME), three),
    "digits": (xgboost.XGBClassifier(**EXTREME), ten),
    "missing": (xgboost.XGBClassifier(**EXTREME), missing),
    "forest": (xgboost.XGBRFClassifier(**EXTREME), three),
    "regression": (xgboost.XGBRegressor(**EXTREME), values),
    "regression_missing": (xgboost.XGBRegressor(**EXTREME), missing),
    "regression_poisson": (xgboost.XGBRegressor(objective="count:poisson", **EXTREME), values),
}


def made():
    for name, (model, data, fitting, converting) in LIGHTGBM.items():
        features, wanted = data()
        model.fit(features, wanted, **fitting)
        yield f"lightgbm_{name}", convert_lightgbm(model, **types(features), **converting), features
    features, progress = values()
    grade, half = (progress // 60).astype(int), len(progress) // 2
    ranker = lightgbm.LGBMRanker(**LIGHT).fit(features, grade, group=[half, len(progress) - half])
    yield "lightgbm_ranker", convert_lightgbm(ranker, **types(features)), features
    # onnxmltools 1.16 converts no ranker of XGBoost's, and no other booster than that of trees.
    for name, (model, data) in XGBOOST.items():
        features, wanted = data()
        yield f"xgboost_{name}", convert_xgboost(model.fit(features, wanted), **types(features)), features


def types(features):
    return {"initial_types": [("X", FloatTensorType([None, features.shape[1]]))], "target_opset": OPSET}


MODELS = {name: (model, {"X": features.astype(np.float32)}) for name, model, features in made()}


@pytest.fixture(scope="module")
def boosters(tmp_path_factory):
    with agreement.serving(tmp_path_factory, {name: model for name, (model, _) in MODELS.items()}) as running:
        yield running


@pytest.mark.parametrize("name", MODELS)
def test_boosters_answer_like_onnx_runtime(boosters, session, name):
    agreement.check(boosters, session, name, *MODELS[name], batches=agreement.ALL_AND_ONE_BY_ONE)
