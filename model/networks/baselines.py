"""What the network has to beat: scikit-learn's classifiers on the same pixels."""

from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC


def _unit(pixels):  # type: ignore[no-untyped-def]  # n x 28 x 28 uint8 -> n x 784 in 0..1
    return pixels.reshape(len(pixels), -1) / 255.0


def baselines(seed: int) -> dict[str, ClassifierMixin]:
    """Untrained classifiers by name; each takes n x 28 x 28 uint8 in `fit` and `predict`.

    Their settings are scikit-learn's own apart from what each needs here: logistic regression its number of
    iterations, the SVM a C of 10, the usual choice for MNIST (a C of 1 underfits it).
    """
    return {
        "logistic_regression": make_pipeline(
            FunctionTransformer(_unit), LogisticRegression(max_iter=1000, random_state=seed)
        ),
        "rbf_svm": make_pipeline(FunctionTransformer(_unit), SVC(C=10, gamma="scale", random_state=seed)),
    }
