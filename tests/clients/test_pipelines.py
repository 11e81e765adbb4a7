"""scikit-learn's models and pipelines through skl2onnx, by our own operators, against ONNX Runtime."""

import warnings
from itertools import product

import agreement
import numpy as np
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn import (
    cluster,
    compose,
    datasets,
    decomposition,
    discriminant_analysis,
    ensemble,
    impute,
    linear_model,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
)
from sklearn.pipeline import make_pipeline

OPSETS = {"": 17, "ai.onnx.ml": 3}

CLASSIFIERS = {
    "logistic": linear_model.LogisticRegression(max_iter=50),
    "sgd": linear_model.SGDClassifier(random_state=0),
    "ridge": linear_model.RidgeClassifier(),
    "perceptron": linear_model.Perceptron(),
    "linear_svc": svm.LinearSVC(),
    "discriminant": discriminant_analysis.LinearDiscriminantAnalysis(),
    "gaussian": naive_bayes.GaussianNB(),
    "bernoulli": naive_bayes.BernoulliNB(),
    "multinomial": naive_bayes.MultinomialNB(),
    "neighbors": neighbors.KNeighborsClassifier(),
    "standard": make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
    "range_mlp": make_pipeline(
        preprocessing.MinMaxScaler(), neural_network.MLPClassifier((8,), max_iter=50, random_state=0)
    ),
    "imputed": make_pipeline(
        impute.SimpleImputer(), preprocessing.RobustScaler(), linear_model.LogisticRegression(max_iter=50)
    ),
    "normalized": make_pipeline(preprocessing.Normalizer(), linear_model.LogisticRegression()),
    "binarized": make_pipeline(preprocessing.Binarizer(threshold=1.0), linear_model.LogisticRegression()),
    "polynomial": make_pipeline(
        preprocessing.StandardScaler(), preprocessing.PolynomialFeatures(2), linear_model.LogisticRegression(max_iter=30)
    ),
    "components": make_pipeline(
        preprocessing.StandardScaler(), decomposition.PCA(4), linear_model.LogisticRegression()
    ),
}
WITHOUT_PROBABILITIES = ["linear_svc"]
REGRESSORS = {
    "linear": linear_model.LinearRegression(),
    "ridge_regression": linear_model.Ridge(),
    "lasso": linear_model.Lasso(),
    "mlp_regression": neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=100, random_state=0),
    "neighbors_regression": neighbors.KNeighborsRegressor(),
    "kmeans": cluster.KMeans(3, random_state=0, n_init=1),
}


def classifiers():
    features, classes = datasets.load_breast_cancer(return_X_y=True)
    wine, kinds = datasets.load_wine(return_X_y=True)
    data = {
        "two": (features, classes),
        "two_texts": (features, np.array(["malignant", "benign"])[classes]),
        "three": (wine, kinds),
        "three_texts": (wine, np.array(["red", "white", "rosé"])[kinds]),
    }
    for (kind, (features, classes)), (name, model) in product(data.items(), CLASSIFIERS.items()):
        rows = features.astype(np.float32)
        options = {} if name in WITHOUT_PROBABILITIES else {"zipmap": False}
        yield f"{name}_of_{kind}", to_onnx(model.fit(features, classes), rows[:1], options=options, target_opset=OPSETS), rows


def regressors():
    features, values = datasets.load_diabetes(return_X_y=True)
    rows = features.astype(np.float32)
    for name, model in REGRESSORS.items():
        yield name, to_onnx(model.fit(features, values), rows[:1], target_opset=OPSETS), rows


def text_columns():
    """A pipeline over named columns of text and numbers, as a table has them."""
    random = np.random.default_rng(0)
    colours = random.choice(["red", "green", "blue"], (60, 1))
    sizes = random.normal(size=(60, 2)).astype(np.float32)
    classes = (sizes[:, 0] + (colours[:, 0] == "red") > 0.5).astype(int)
    table = np.concatenate([colours.astype(object), sizes.astype(object)], axis=1)
    prepared = compose.ColumnTransformer(
        [
            ("colour", preprocessing.OneHotEncoder(handle_unknown="ignore"), [0]),
            ("sizes", preprocessing.StandardScaler(), [1, 2]),
        ]
    )
    types = [("colour", StringTensorType([None, 1])), ("sizes", FloatTensorType([None, 2]))]
    for model in [linear_model.LogisticRegression(), ensemble.RandomForestClassifier(10, random_state=0)]:
        pipeline = make_pipeline(prepared, model).fit(table, classes)
        converted = to_onnx(pipeline, initial_types=types, options={"zipmap": False}, target_opset=OPSETS)
        unknown = np.where(np.arange(60)[:, None] % 7 == 0, "violet", colours)
        yield f"table_{type(model).__name__}", converted, {"colour": unknown.astype(object), "sizes": sizes}


def made():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # models that have not converged serve as well here
        return {
            name: (model, rows if isinstance(rows, dict) else {"X": rows})
            for name, model, rows in [*classifiers(), *regressors(), *text_columns()]
        }


MODELS = made()


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    with agreement.serving(tmp_path_factory, {name: model for name, (model, _) in MODELS.items()}) as running:
        yield running


@pytest.mark.parametrize("name", MODELS)
def test_pipelines_answer_like_onnx_runtime(pipelines, session, name):
    agreement.check(pipelines, session, name, *MODELS[name])
