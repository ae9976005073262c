"""The baselines: scikit-learn's classifiers, trained on the same pixels."""

from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC


def _unit(pixels):  # type: ignore[no-untyped-def]  # n x 28 x 28 uint8 -> n x 784 in 0..1
    return pixels.reshape(len(pixels), -1) / 255.0


def _on_pixels(classifier: ClassifierMixin) -> ClassifierMixin:
    return make_pipeline(FunctionTransformer(_unit), classifier)


def logistic_regression(seed: int) -> ClassifierMixin:
    """Cox 1958. It has scikit-learn's default settings, with enough iterations to converge."""
    return _on_pixels(LogisticRegression(max_iter=1000, random_state=seed))


def rbf_svm(seed: int) -> ClassifierMixin:
    """Cortes and Vapnik 1995. C = 10 is the usual choice for MNIST; C = 1 underfits."""
    return _on_pixels(SVC(C=10, gamma="scale", random_state=seed))


def random_forest(seed: int) -> ClassifierMixin:
    """Breiman 2001. As in the paper, a leaf may hold a single image. 400 trees instead of 200 gain 0.1 points."""
    return _on_pixels(RandomForestClassifier(n_estimators=200, random_state=seed, n_jobs=-1))


def baselines(seed: int) -> dict[str, ClassifierMixin]:
    """The classifiers that the gate compares with, untrained. Each takes n x 28 x 28 uint8 in `fit` and `predict`."""
    return {"logistic_regression": logistic_regression(seed), "rbf_svm": rbf_svm(seed)}
