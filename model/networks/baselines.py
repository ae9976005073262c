"""What the network has to beat: scikit-learn's classifiers on the same pixels."""

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
    """Takes n x 28 x 28 uint8, as all of these do. scikit-learn's settings, with iterations enough to converge."""
    return _on_pixels(LogisticRegression(max_iter=1000, random_state=seed))


def rbf_svm(seed: int) -> ClassifierMixin:
    """Cortes and Vapnik 1995. A C of 10, the usual choice for MNIST: a C of 1 underfits it."""
    return _on_pixels(SVC(C=10, gamma="scale", random_state=seed))


def random_forest(seed: int) -> ClassifierMixin:
    """Breiman 2001. A leaf of a single image at the least, as he has it; more than 200 trees gain 0.1 points."""
    return _on_pixels(RandomForestClassifier(n_estimators=200, random_state=seed, n_jobs=-1))


def baselines(seed: int) -> dict[str, ClassifierMixin]:
    """What the gate compares with, untrained, by name; each takes n x 28 x 28 uint8 in `fit` and `predict`."""
    return {"logistic_regression": logistic_regression(seed), "rbf_svm": rbf_svm(seed)}
