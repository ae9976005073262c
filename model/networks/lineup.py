"""The line-up: classifiers of digits from 1958 to 2020, each with the same two methods."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from torch import nn

from model.augment import Distortion
from model.canonical import Pixels
from model.networks import baselines
from model.networks.alexnet import AlexNet
from model.networks.cnn import CNN
from model.networks.lenet import LeNet5
from model.networks.neocognitron import Neocognitron
from model.networks.vit import ViT
from model.training import Group, Recipe, logits, train


class Classifier(Protocol):
    """The two methods of every classifier."""

    def fit(self, images: Pixels, labels: NDArray[np.uint8]) -> object:
        """Learns from n x 28 x 28 canonical images and their n labels. Every label up to the greatest must occur."""

    def scores(self, images: Pixels) -> NDArray[np.floating]:
        """n x 28 x 28 -> n x classes; the greatest is the answer. They are probabilities if the classifier has them."""


class OnPixels:
    """A scikit-learn classifier."""

    def __init__(self, classifier: ClassifierMixin) -> None:
        self._classifier = classifier

    def fit(self, images: Pixels, labels: NDArray[np.uint8]) -> None:
        self._classifier.fit(images, labels)

    def scores(self, images: Pixels) -> NDArray[np.floating]:
        probabilistic = hasattr(self._classifier, "predict_proba")
        method = self._classifier.predict_proba if probabilistic else self._classifier.decision_function
        scores: NDArray[np.floating] = method(images)
        return scores


class Trained:
    """A network trained by gradient descent, on a GPU if there is one."""

    def __init__(self, network: Callable[[int], nn.Module], recipe: Recipe) -> None:
        """Takes what builds the network for a number of classes."""
        self._build, self._recipe = network, recipe

    def fit(self, images: Pixels, labels: NDArray[np.uint8]) -> None:
        with torch.random.fork_rng():  # initial weights and dropout use torch's global generator
            torch.manual_seed(self._recipe.seed)
            self.network = self._build(int(labels.max()) + 1).to("cuda" if torch.cuda.is_available() else "cpu")
            training = Group(images, labels)
            for _ in train(self.network, [training], Group(images[:100], labels[:100]), self._recipe):
                pass  # the reports are not used here

    def scores(self, images: Pixels) -> NDArray[np.floating]:
        probabilities: NDArray[np.floating] = softmax(logits(self.network, images), axis=1)
        return probabilities


@dataclass(frozen=True)
class Entry:
    """A place in the line-up."""

    year: int  # of the source
    source: str  # the publication of what is new in this classifier
    build: Callable[[int], Classifier]  # from a seed
    images: int | None = None  # the most training images; None: no limit


def _recipe(images_seen: int, learning_rate: float, seed: int) -> Recipe:
    return Recipe(
        images_seen=images_seen,
        batch_size=128,
        learning_rate=learning_rate,
        weight_decay=0.02,
        label_smoothing=0.0,
        average=0.2,
        augment=None,
        seed=seed,
        report_every=images_seen,
    )


AUGMENT: Final = Distortion(rotation=8, scale=0.08, shear=0.1, shift=1, elastic=0.5, stroke=0.2, contrast=0.3)


def _scikit(build: Callable[[int], ClassifierMixin]) -> Callable[[int], Classifier]:
    return lambda seed: OnPixels(build(seed))


def _network(
    network: Callable[[int], nn.Module], images_seen: int, learning_rate: float, augment: Distortion | None = None
) -> Callable[[int], Classifier]:
    return lambda seed: Trained(network, replace(_recipe(images_seen, learning_rate, seed), augment=augment))


def _cnn(classes: int) -> CNN:
    return CNN(16, classes)


# Images seen: 2 cores train for one to two minutes. Learning rates: the best on the validation images of those that
# docs/lineup.md lists. `cnn_plain` and `cnn` are the network that is served: without, and with distorted training
# images.
LINE_UP: Final[dict[str, Entry]] = {
    "logistic_regression": Entry(
        1958, "Cox: The regression analysis of binary sequences", _scikit(baselines.logistic_regression), 10_000
    ),
    "rbf_svm": Entry(1995, "Cortes, Vapnik: Support-vector networks", _scikit(baselines.rbf_svm), 10_000),
    "random_forest": Entry(2001, "Breiman: Random forests", _scikit(baselines.random_forest)),
    "neocognitron": Entry(1980, "Fukushima: Neocognitron", Neocognitron, 10_000),
    "lenet5": Entry(
        1998, "LeCun et al.: Gradient-based learning applied to document recognition", _network(LeNet5, 200_000, 0.004)
    ),
    "alexnet": Entry(
        2012, "Krizhevsky et al.: ImageNet classification with deep CNNs", _network(AlexNet, 100_000, 0.004)
    ),
    "vit": Entry(2020, "Dosovitskiy et al.: An image is worth 16x16 words", _network(ViT, 200_000, 0.002)),
    "cnn_plain": Entry(2015, "Ioffe, Szegedy: Batch normalization", _network(_cnn, 200_000, 0.004)),
    "cnn": Entry(2003, "Simard et al.: Best practices for CNNs", _network(_cnn, 200_000, 0.004, AUGMENT)),
}
