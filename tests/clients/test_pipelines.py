"""scikit-learn's models and pipelines through skl2onnx, against ONNX Runtime, on the data that scikit-learn ships.

Not here, since with these versions no file comes out that ONNX Runtime takes: histogram gradient boosting,
classification by Gaussian processes, nearest centroids, splines.
"""

import warnings
from itertools import product

import agreement
import numpy as np
import pytest
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn import (
    calibration,
    cluster,
    compose,
    cross_decomposition,
    datasets,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.pipeline import make_pipeline, make_union

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
# For two classes and for three named ones; those above also the other way around.
MORE_CLASSIFIERS = {
    # Unscaled, sums over kernels of large numbers cancel out, and single precision decides nothing.
    "svc_rbf": make_pipeline(preprocessing.StandardScaler(), svm.SVC(probability=True, random_state=0)),
    "svc_poly": make_pipeline(
        preprocessing.StandardScaler(), svm.SVC(kernel="poly", degree=2, probability=True, random_state=0)
    ),
    "svc_sigmoid": make_pipeline(preprocessing.StandardScaler(), svm.SVC(kernel="sigmoid", probability=True)),
    "svc_scores": make_pipeline(preprocessing.StandardScaler(), svm.SVC(kernel="linear")),
    "nu_svc": make_pipeline(preprocessing.StandardScaler(), svm.NuSVC(nu=0.3, probability=True, random_state=0)),
    "complement": naive_bayes.ComplementNB(),
    "neighbors_by_distance": neighbors.KNeighborsClassifier(3, weights="distance", metric="manhattan"),
    "quadratic_discriminant": discriminant_analysis.QuadraticDiscriminantAnalysis(reg_param=0.1),
    "tree": tree.DecisionTreeClassifier(max_depth=5, random_state=0),
    "forest": ensemble.RandomForestClassifier(20, random_state=0),
    "extra_trees": ensemble.ExtraTreesClassifier(20, random_state=0),
    "gradient_boosting": ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0),
    "ada_boost": ensemble.AdaBoostClassifier(n_estimators=5, random_state=0),
    "bagging": ensemble.BaggingClassifier(linear_model.LogisticRegression(max_iter=30), 4, random_state=0),
    "voting": ensemble.VotingClassifier(
        [("linear", linear_model.LogisticRegression(max_iter=30)), ("tree", tree.DecisionTreeClassifier(max_depth=3))],
        voting="soft",
        flatten_transform=False,
    ),
    "voting_hard": ensemble.VotingClassifier(
        [("gaussian", naive_bayes.GaussianNB()), ("tree", tree.DecisionTreeClassifier(max_depth=3))],
        flatten_transform=False,
    ),
    "stacking": ensemble.StackingClassifier(
        [("linear", linear_model.LogisticRegression(max_iter=30)), ("tree", tree.DecisionTreeClassifier(max_depth=3))]
    ),
    "calibrated_sigmoid": calibration.CalibratedClassifierCV(ensemble.RandomForestClassifier(5, random_state=0)),
    "calibrated_isotonic": calibration.CalibratedClassifierCV(naive_bayes.GaussianNB(), method="isotonic"),
    "one_against_rest": multiclass.OneVsRestClassifier(linear_model.LogisticRegression(max_iter=30)),
    "mlp_tanh": make_pipeline(
        preprocessing.StandardScaler(),
        neural_network.MLPClassifier((8, 4), activation="tanh", max_iter=50, random_state=0),
    ),
    "truncated": make_pipeline(
        decomposition.TruncatedSVD(4, random_state=0), linear_model.LogisticRegression(max_iter=30)
    ),
    "bins": make_pipeline(
        preprocessing.KBinsDiscretizer(4, encode="ordinal"), tree.DecisionTreeClassifier(max_depth=4, random_state=0)
    ),
    "selected": make_pipeline(feature_selection.SelectKBest(k=5), linear_model.LogisticRegression(max_iter=30)),
    "power": make_pipeline(
        preprocessing.StandardScaler(), preprocessing.PowerTransformer(), linear_model.LogisticRegression()
    ),
    "quantiles": make_pipeline(
        preprocessing.QuantileTransformer(n_quantiles=20), linear_model.LogisticRegression(max_iter=30)
    ),
    "largest": make_pipeline(preprocessing.MaxAbsScaler(), linear_model.LogisticRegression()),
    "union": make_pipeline(
        make_union(decomposition.PCA(2), preprocessing.StandardScaler()), linear_model.LogisticRegression(max_iter=30)
    ),
}
WITHOUT_PROBABILITIES = ["linear_svc", "voting_hard"]
REGRESSORS = {
    "linear": linear_model.LinearRegression(),
    "ridge_regression": linear_model.Ridge(),
    "lasso": linear_model.Lasso(),
    "mlp_regression": neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=100, random_state=0),
    "neighbors_regression": neighbors.KNeighborsRegressor(),
    "svr_rbf": svm.SVR(C=10),
    "svr_poly": svm.SVR(kernel="poly"),
    "nu_svr": svm.NuSVR(C=10),
    "linear_svr": svm.LinearSVR(random_state=0),
    "poisson": linear_model.PoissonRegressor(),
    "least_squares": cross_decomposition.PLSRegression(2),
    "gaussian_process": gaussian_process.GaussianProcessRegressor(alpha=1.0, random_state=0),
    "forest_regression": ensemble.RandomForestRegressor(20, random_state=0),
    "extra_trees_regression": ensemble.ExtraTreesRegressor(20, random_state=0),
    "gradient_boosting_regression": ensemble.GradientBoostingRegressor(n_estimators=20, random_state=0),
    "ada_boost_regression": ensemble.AdaBoostRegressor(n_estimators=5, random_state=0),
    "bagging_regression": ensemble.BaggingRegressor(n_estimators=4, random_state=0),
    "voting_regression": ensemble.VotingRegressor(
        [("linear", linear_model.LinearRegression()), ("tree", tree.DecisionTreeRegressor(max_depth=3))]
    ),
    "stacking_regression": ensemble.StackingRegressor(
        [("linear", linear_model.LinearRegression()), ("tree", tree.DecisionTreeRegressor(max_depth=3))]
    ),
}
# Several values at once.
VECTOR_REGRESSORS = {
    "many_linear": linear_model.LinearRegression(),
    "many_ridges": multioutput.MultiOutputRegressor(linear_model.Ridge()),
    "many_by_forest": ensemble.RandomForestRegressor(10, random_state=0),
    "many_least_squares": cross_decomposition.PLSRegression(2),
}
# What learns without being told the answers.
UNSUPERVISED = {
    "kmeans": make_pipeline(preprocessing.StandardScaler(), cluster.KMeans(3, random_state=0, n_init=1)),
    "mixture": make_pipeline(preprocessing.StandardScaler(), mixture.GaussianMixture(3, random_state=0)),
    "isolation_forest": ensemble.IsolationForest(n_estimators=20, random_state=0),
    "one_class_svm": make_pipeline(preprocessing.StandardScaler(), svm.OneClassSVM()),
    "outliers": neighbors.LocalOutlierFactor(novelty=True),
    "components_alone": decomposition.PCA(3),
}
WITH_MAPS = {
    "map_logistic": linear_model.LogisticRegression(max_iter=50),
    "map_forest": ensemble.RandomForestClassifier(10, random_state=0),
    "map_svc": make_pipeline(preprocessing.StandardScaler(), svm.SVC(probability=True, random_state=0)),
}


def classifiers():
    features, classes = datasets.load_breast_cancer(return_X_y=True)
    wine, kinds = datasets.load_wine(return_X_y=True)
    data = {
        "two": (features, classes),
        "three_texts": (wine, np.array(["red", "white", "rosé"])[kinds]),
        "two_texts": (features, np.array(["malignant", "benign"])[classes]),
        "three": (wine, kinds),
    }
    every = product(data.items(), CLASSIFIERS.items())
    more = product([*data.items()][:2], MORE_CLASSIFIERS.items())
    for (kind, (features, classes)), (name, model) in [*every, *more]:
        options = None if name in WITHOUT_PROBABILITIES else {"zipmap": False}
        yield f"{name}_of_{kind}", *converted(model, features, classes, options)
    for (kind, (features, classes)), (name, model) in product(data.items(), WITH_MAPS.items()):
        yield f"{name}_of_{kind}", *converted(model, features, classes)
    # With named classes skl2onnx 1.20 writes a file that ONNX Runtime does not take.
    against = multiclass.OneVsOneClassifier(linear_model.LogisticRegression(max_iter=30))
    yield "one_against_one_of_three", *converted(against, wine, kinds, {"zipmap": False})
    features, digits = datasets.load_digits(return_X_y=True)
    for name in ["logistic", "multinomial", "neighbors", "range_mlp", "components"]:
        yield f"{name}_of_digits", *converted(CLASSIFIERS[name], features, digits, {"zipmap": False})
    for name in ["svc_rbf", "forest", "quadratic_discriminant"]:
        yield f"{name}_of_digits", *converted(MORE_CLASSIFIERS[name], features, digits, {"zipmap": False})


def others():
    features, values = datasets.load_diabetes(return_X_y=True)
    for name, model in REGRESSORS.items():
        yield name, *converted(model, features, values)
    exercises, bodies = datasets.load_linnerud(return_X_y=True)
    for name, model in VECTOR_REGRESSORS.items():
        yield name, *converted(model, exercises, bodies)
    wine = datasets.load_wine(return_X_y=True)[0]
    for name, model in UNSUPERVISED.items():
        yield name, *converted(model, wine, None)


def converted(model, features, classes, options=None):
    rows = features.astype(np.float32)
    return to_onnx(model.fit(features, classes), rows[:1], options=options, target_opset=OPSETS), {"X": rows}


def tables():
    """Pipelines over named columns of texts and numbers: of flowers the species, a word for the size, and lengths of
    which some are missing."""
    lengths, species = datasets.load_iris(return_X_y=True)
    names = datasets.load_iris().target_names[species].astype(object)[:, None]
    sizes = np.array(["small", "medium", "large"], object)[np.digitize(lengths[:, 2:3], [2, 5])]
    widths, lengths = lengths[:, 3], lengths[:, :2].astype(np.float32)
    lengths[::5, 0] = np.nan
    table = np.concatenate([names, sizes, lengths.astype(object)], axis=1)
    prepared = compose.ColumnTransformer(
        [
            ("species", preprocessing.OneHotEncoder(handle_unknown="ignore"), [0]),
            ("size", preprocessing.OrdinalEncoder(categories=[["small", "medium", "large"]]), [1]),
            ("lengths", make_pipeline(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler()), [2, 3]),
        ]
    )
    types = [(name, StringTensorType([None, 1])) for name in ("species", "size")] + [("lengths", FloatTensorType([None, 2]))]
    unknown = np.where(np.arange(len(names))[:, None] % 7 == 0, "violet", names).astype(object)
    inputs = {"species": unknown, "size": sizes, "lengths": lengths}
    for model in [linear_model.LogisticRegression(), ensemble.RandomForestClassifier(10, random_state=0)]:
        pipeline = make_pipeline(prepared, model).fit(table, widths > 1.3)
        options = {"zipmap": False}
        model_of_table = to_onnx(pipeline, initial_types=types, options=options, target_opset=OPSETS)
        yield f"table_{type(model).__name__}", model_of_table, inputs
    pipeline = make_pipeline(prepared, ensemble.GradientBoostingRegressor(n_estimators=10)).fit(table, widths)
    yield "table_regression", to_onnx(pipeline, initial_types=types, target_opset=OPSETS), inputs


def made():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # models that have not converged serve as well here
        return {name: (model, inputs) for name, model, inputs in [*classifiers(), *others(), *tables()]}


def text_model(vectorizer):
    """A vectorizer of texts, here of the sentences that describe a data set."""
    sentences = np.array(datasets.load_iris().DESCR.split("."))
    types = [("text", StringTensorType([None, 1]))]
    return to_onnx(vectorizer.fit(sentences), initial_types=types, target_opset=OPSETS)


REFUSED = {
    "counts": text_model(feature_extraction.text.CountVectorizer()),
    "frequencies": text_model(feature_extraction.text.TfidfVectorizer()),
}
MODELS = made()


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory):
    models = {name: model for name, (model, _) in MODELS.items()}
    with agreement.serving(tmp_path_factory, models | REFUSED) as running:
        yield running


@pytest.mark.parametrize("name", MODELS)
def test_pipelines_answer_like_onnx_runtime(pipelines, session, name):
    agreement.check(pipelines, session, name, *MODELS[name], batches=agreement.ALL_AND_ONE_BY_ONE)


@pytest.mark.parametrize("name", REFUSED)
def test_vectorizers_of_texts_are_refused_with_the_reason(pipelines, session, name):
    answer = session.post(pipelines.url(f"/predict/{name}"), json={"inputs": {"text": [["a flower"]]}})
    assert answer.status_code == 501
    reason = answer.json()["error"]
    assert f"'{name}'" in reason and ("StringNormalizer" in reason or "TfIdfVectorizer" in reason), reason
