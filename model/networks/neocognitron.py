"""The Neocognitron (1980): S-cells find features, C-cells tolerate shifts of them; there is no back-propagation.

After Fukushima: Neocognitron, a self-organizing neural network model (1980), in his later form: Artificial vision by
multi-layered neural networks: Neocognitron and its advances (2013); Training multi-layered neural network Neocognitron
(2013), with the rule "add-if-silent" and the interpolating vector.
"""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model.canonical import Pixels

ORIENTATIONS: Final = 16  # of edges, over the full circle: dark-to-bright and bright-to-dark are two orientations
EDGE: Final = 5  # pixels, the side of an edge's template
EDGE_THETA: Final = 0.6  # threshold of the cells that extract edges; 0.4 and 0.7 give lower accuracy
SURROUND: Final = 1.5  # pixels, the standard deviation of the surround that contrast is measured against
BLUR: Final = 1.5  # cells, the standard deviation of a C-cell's receptive field
FAINTEST: Final = 0.05  # length of a patch; an S-cell finds nothing in a fainter patch
NEIGHBOURS: Final = 8  # references of each class for the interpolation
THETAS: Final = (0.6, 0.7, 0.8)  # tried for each learnt layer
TRIAL: Final = 4000  # the most training images that templates are taken from and thresholds are chosen on
BATCH: Final = 250  # images


def gaussian(distance: Tensor, sigma: float) -> Tensor:
    return torch.exp(-(distance**2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)


def window(side: int) -> Tensor:
    """`side` x `side`: the weight of each place of a patch, greatest in the middle."""
    along = gaussian(torch.arange(side) - (side - 1) / 2, 0.3 * side)
    return along[:, None] * along


class Contrast(nn.Module):
    """n x 1 x 28 x 28 -> n x 2 x 32 x 32: brighter, and darker, than the surround (UG, on- and off-centre)."""

    def forward(self, images: Tensor) -> Tensor:
        along = gaussian(torch.arange(7) - 3, SURROUND)
        weights = -along[:, None] * along / along.sum() ** 2
        weights[3, 3] += 1
        difference = functional.conv2d(images, weights[None, None], padding=5)
        return torch.cat([difference.relu(), (-difference).relu()], dim=1)


class S(nn.Module):
    """n x maps x side x side -> n x templates x side x side in 0..1: the similarity of each patch and each template.

    With s the cosine of patch and template, weighted by a Gaussian window, it is (s - θ) / (1 - θ), and 0 below θ.
    """

    def __init__(self, templates: Tensor, theta: float) -> None:
        super().__init__()
        self.theta, self.padding = theta, templates.shape[-1] // 2
        self.window: Tensor
        self.weights: Tensor
        self.register_buffer("window", window(templates.shape[-1]))
        length = (self.window * templates**2).sum(dim=(1, 2, 3), keepdim=True).sqrt()
        self.register_buffer("weights", self.window * templates / length)

    def forward(self, x: Tensor) -> Tensor:
        energy = functional.conv2d((x**2).sum(dim=1, keepdim=True), self.window[None, None], padding=self.padding)
        length = energy.clamp(min=0).sqrt_()
        cosine = functional.conv2d(x, self.weights, padding=self.padding) / length.clamp(min=FAINTEST)
        return cosine.sub_(self.theta).relu_().div_(1 - self.theta).clamp_(max=1)


class C(nn.Module):
    """n x maps x side x side -> n x maps x side/2 x side/2: blurs each map, keeps every second cell, and saturates."""

    def forward(self, x: Tensor) -> Tensor:
        side = x.shape[-1]
        centres = torch.arange(0, side, 2) + 0.5
        blur = gaussian(torch.arange(side) - centres[:, None], BLUR)  # side/2 x side, for rows and for columns
        return (blur @ x @ blur.T).sqrt_()


def edges() -> Tensor:
    """16 x 2 x 5 x 5: the output of `Contrast` for a straight edge in each orientation."""
    grid = torch.arange(29) - 14.0
    angles = torch.arange(ORIENTATIONS) * (2 * math.pi / ORIENTATIONS)
    distance = angles.cos()[:, None, None] * grid + angles.sin()[:, None, None] * grid[:, None]
    contrast: Tensor = Contrast()((distance.clamp(-0.5, 0.5) + 0.5)[:, None])  # 16 x 2 x 33 x 33
    first = 16 - EDGE // 2
    return contrast[:, :, first : first + EDGE, first : first + EDGE]


def add_if_silent(x: Tensor, theta: float, most: int, generator: torch.Generator, side: int = 3) -> Tensor:
    """Templates for an S-layer over n x maps x height x width: a patch becomes a template if no cell answers to it.

    Patches come in random order, one batch of images after the other. A patch is added, unchanged, if its cosine with
    every template so far is below θ. Returns k x maps x side x side; k is at most `most`.
    """
    maps = x.shape[1]
    weigh = window(side).sqrt().flatten().repeat(maps)  # the plain cosine of patches times this is the weighted cosine
    templates = torch.empty(0, maps * side * side)
    for images in _batches(x):
        patches = functional.unfold(images, side, padding=side // 2).mT.reshape(-1, maps * side * side) * weigh
        length = patches.norm(dim=1, keepdim=True)
        patches = (patches / length)[length[:, 0] > FAINTEST]
        if len(templates):
            patches = patches[(patches @ templates.T).amax(dim=1) < theta]
        patches = patches[torch.randperm(len(patches), generator=generator)]
        while len(patches) and len(templates) < most:
            templates = torch.cat([templates, patches[:1]])
            patches = patches[patches @ patches[0] < theta]
    return (templates / weigh).reshape(-1, maps, side, side)


class InterpolatingVectors:
    """The top layer: how near a vector is to a line between two references of a class.

    Every training vector is a reference. For each class, the lines run between the `NEIGHBOURS` nearest references.
    """

    def __init__(self, vectors: Tensor, labels: Tensor, classes: int) -> None:
        unit = functional.normalize(vectors)
        self._references = [unit[labels == label] for label in range(classes)]
        self._cosines = [references @ references.T for references in self._references]

    def scores(self, vectors: Tensor) -> Tensor:
        """n x length -> n x classes: for each class, the greatest cosine with any point between two references."""
        unit = functional.normalize(vectors)
        return torch.stack([self._score(unit, label) for label in range(len(self._references))], dim=1)

    def _score(self, unit: Tensor, digit: int) -> Tensor:
        if not len(self._references[digit]):  # no training image of this class
            return torch.zeros(len(unit))
        to = unit @ self._references[digit].T
        near, which = to.topk(min(NEIGHBOURS, to.shape[1]), dim=1)
        a, b = near[:, :, None], near[:, None, :]  # n x neighbours x neighbours pairs
        ab = self._cosines[digit][which[:, :, None], which[:, None, :]]
        # The best p A + q B has (cosine)² = (a² + b² - 2 a b ab) / (1 - ab²). It is between A and B if p, q > 0.
        squared = (a**2 + b**2 - 2 * a * b * ab) / (1 - ab**2).clamp(min=1e-4)
        between = (a > b * ab) & (b > a * ab) & (ab < 0.9999)
        best = (squared.clamp(min=0).sqrt() * between).amax(dim=(1, 2))
        return torch.maximum(best, near[:, 0])


def _accuracy(x: Tensor, digits: Tensor, classes: int) -> float:
    """The accuracy on the last quarter, with the rest as references."""
    vectors, known = x.flatten(1), len(x) * 3 // 4
    scores = InterpolatingVectors(vectors[:known], digits[:known], classes).scores(vectors[known:])
    return (scores.argmax(dim=1) == digits[known:]).float().mean().item()


def _batches(x: Tensor) -> Iterator[Tensor]:
    return (x[at : at + BATCH] for at in range(0, len(x), BATCH))


def _tensor(images: Pixels) -> Tensor:
    return torch.from_numpy(images).unsqueeze(1).float() / 255


def _through(layers: nn.Module, x: Tensor) -> Tensor:
    """The output of `layers`, computed in batches to save memory."""
    return torch.cat([layers(part) for part in _batches(x)])


class Neocognitron:
    """Contrast, edges (US1-UC1), learnt features (US2-UC2, and more pairs if asked for), interpolating vectors.

    Nothing is trained by gradient descent. `templates` limits the number of cells of each learnt layer. The threshold
    of a learnt layer is chosen from `THETAS`: the one that reads a part of the training images best, with the others as
    references.
    """

    def __init__(self, seed: int, templates: tuple[int, ...] = (150,)) -> None:
        self._seed, self._templates = seed, templates

    @torch.inference_mode()
    def fit(self, images: Pixels, labels: NDArray[np.uint8]) -> None:
        """Learns from n x 28 x 28 images and their n digits. Only the top layer uses the digits."""
        generator = torch.Generator().manual_seed(self._seed)
        self.layers = nn.Sequential(Contrast(), S(edges(), EDGE_THETA), C())
        order = torch.randperm(len(images), generator=generator)
        x, digits = _through(self.layers, _tensor(images)[order]), torch.from_numpy(labels).long()[order]
        classes = int(labels.max()) + 1
        for most in self._templates:
            tried = {}
            for theta in THETAS:
                pair = nn.Sequential(S(add_if_silent(x[:TRIAL], theta, most, generator), theta), C())
                tried[_accuracy(_through(pair, x[:TRIAL]), digits[:TRIAL], classes)] = pair
            self.layers.extend(best := tried[max(tried)])
            x = _through(best, x)
        self.top = InterpolatingVectors(x.flatten(1), digits, classes)

    @torch.inference_mode()
    def scores(self, images: Pixels) -> NDArray[np.float32]:
        """n x 28 x 28 -> n x classes in 0..1: the cosines of `InterpolatingVectors`, not probabilities."""
        batches = [self.top.scores(self.layers(part).flatten(1)) for part in _batches(_tensor(images))]
        scores: NDArray[np.float32] = torch.cat(batches).numpy()
        return scores
