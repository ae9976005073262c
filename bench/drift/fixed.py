"""Detection in n predictions beside black-box shift detection (BBSDs), in the protocol of Rabanser et al. 2019.

BBSDs compares each of the model's probabilities with the reference's by a two-sample Kolmogorov-Smirnov test, at a
level that is divided by their number (Bonferroni). The protocol averages over kinds of shift, strengths, and shares of
the pictures that are shifted. Its adversarial examples are left out: they need gradients, and a bundle has none.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from scipy.stats import kstwobign
from tqdm import tqdm

from bench.drift.traffic import Measured, Pool
from model.canonical import Pixels
from model.drift import Evidence, Reference
from model.predictor import Predictor
from model.statistics import NAMES

ALPHA: Final = 0.05
SIZES: Final = (10, 20, 50, 100, 200, 500, 1_000, 10_000)
PUBLISHED: Final = (0.19, 0.28, 0.47, 0.47, 0.51, 0.65, 0.70, 0.79)  # BBSDs, mean over MNIST and CIFAR-10
SHARES: Final = (0.1, 0.5, 1.0)  # of the pictures that are shifted, or of class 0 that is left out
NOISE: Final = {"small noise": 1, "medium noise": 10, "large noise": 100}  # grey levels, standard deviation
# The greatest rotation in degrees, shift (share of the side), shear in degrees * 180 / pi, zoom, and flips
IMAGE: Final = {
    "small image": (10, 0.05, 0.1, 0.1, False, False),
    "medium image": (40, 0.2, 0.2, 0.2, True, False),
    "large image": (90, 0.4, 0.3, 0.4, True, True),
}
CLASS: Final = 0  # the class that is left out, or alone


def _moved(images: Pixels, strength: tuple[float, float, float, float, bool, bool], rng: Generator) -> Pixels:
    """Rotates, shifts, shears, zooms and flips each image by random amounts, as Keras' generator of images does."""
    rotation, shift, shear, zoom, across, down = strength
    out = np.empty_like(images)
    middle = (images.shape[1] - 1) / 2
    for row, image in enumerate(images):
        angle, slant = np.radians(rng.uniform(-rotation, rotation)), rng.uniform(-shear, shear)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = (
            turn @ np.array([[1, -np.sin(slant)], [0, np.cos(slant)]]) @ np.diag(rng.uniform(1 - zoom, 1 + zoom, 2))
        )
        offset = middle - linear @ [middle, middle] + rng.uniform(-shift, shift, 2) * len(image)
        moved = affine_transform(image, linear, offset, order=1, mode="nearest")
        moved = moved[:, ::-1] if across and rng.random() < 0.5 else moved
        out[row] = moved[::-1] if down and rng.random() < 0.5 else moved
    return out


def shifted(predictor: Predictor, pool: Pool) -> dict[str, Measured]:
    """What is watched of every picture of the pool after each shift of pixels."""
    rng = np.random.default_rng(5)
    made = {}
    for name in tqdm((*NOISE, *IMAGE), "shifts", leave=False, disable=None):
        if name in NOISE:
            levels = pool.images + rng.normal(0, NOISE[name], pool.images.shape)
            pixels = np.rint(levels).clip(0, 255).astype(np.uint8)
        else:
            pixels = _moved(pool.images, IMAGE[name], rng)
        made[name] = Measured.of(predictor, pixels, pool.labels)
    return made


def samples(
    pool: Pool, made: dict[str, Measured], rows: NDArray[np.intp], rng: Generator
) -> Iterator[tuple[str, Measured]]:
    """(shift, its traffic) for each shift of the protocol. `rows` are those of the clean traffic, in random order."""
    clean = pool.measured
    is_class = pool.labels[rows] == CLASS
    knocked = {share: rows[~(is_class & (rng.random(len(rows)) < share))] for share in SHARES}
    for share in SHARES:
        yield "class left out", clean[knocked[share]]
    for name, pixels in made.items():
        for share in SHARES:
            yield name, blend(clean, pixels, share, rows, rng)
    for share in SHARES:
        yield "medium image, class left out", blend(clean, made["medium image"], share, knocked[0.5], rng)
        yield "medium image, one class alone", blend(clean, made["medium image"], share, rows[is_class], rng)


def blend(clean: Measured, pixels: Measured, share: float, rows: NDArray[np.intp], rng: Generator) -> Measured:
    """The pictures of `rows`, of which a `share` is shifted."""
    chosen = (rng.random(len(rows)) < share)[:, None]
    return Measured(
        np.where(chosen, pixels.values[rows], clean.values[rows]),
        np.where(chosen[:, 0], pixels.right[rows], clean.right[rows]),
        np.where(chosen, pixels.probabilities[rows], clean.probabilities[rows]),
    )


def ours(reference: Reference, traffic: Measured, rng: Generator) -> float:
    """The logarithm of the evidence."""
    evidence = Evidence(reference)
    evidence.add(traffic.values, rng.random(traffic.values.shape), 0)
    return evidence.average(NAMES)


def bbsds(known: NDArray[np.float32], traffic: Measured) -> float:
    """The greatest distance of Kolmogorov and Smirnov over the probabilities, times the root of n m / (n + m).

    `known` are the reference's probabilities, each column sorted.
    """
    here, there = len(known), len(traffic)
    greatest = 0.0
    for column, values in zip(known.T, np.sort(traffic.probabilities, axis=0).T, strict=True):
        for side in ("left", "right"):  # between two values of the traffic, one function is flat and the other grows
            distance = column.searchsorted(values, side) / here - values.searchsorted(values, side) / there
            greatest = max(greatest, float(np.abs(distance).max()))
    return greatest * float(np.sqrt(here * there / (here + there)))


def measure(predictor: Predictor, pool: Pool, splits: int, clean_splits: int) -> None:
    """Prints the table. Each split of the pool into reference and traffic is another one."""
    sizes = [size for size in SIZES if size <= len(pool) - pool.half]
    made = shifted(predictor, pool)
    null: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    found: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    for number in tqdm(range(max(splits, clean_splits)), "splits", leave=False, disable=None):
        rng = np.random.default_rng([number, 6])
        order = rng.permutation(len(pool))
        known = pool.measured[order[: pool.half]]
        reference, columns = known.reference(), np.sort(known.probabilities, axis=0)
        rows = order[pool.half :]
        traffics = [(null, pool.measured[rows])] if number < clean_splits else []
        if number < splits:
            traffics += [(found, traffic) for _, traffic in samples(pool, made, rows, rng)]
        for scores, traffic in traffics:
            for size in sizes:
                some = traffic[:size]
                scores[size].append((ours(reference, some, rng), bbsds(columns, some)))
    _print(null, found, classes=pool.measured.probabilities.shape[1])


def _print(
    null: dict[int, list[tuple[float, float]]], found: dict[int, list[tuple[float, float]]], classes: int
) -> None:
    nominal = np.array([-np.log(ALPHA), kstwobign.isf(ALPHA / classes)])
    shifts = len(next(iter(found.values())))
    print(f"Share of {shifts} shifted samples that are found, averaged over the shifts; clean: false alarms.")
    print(f"{'':>8} {'as they are, alpha 0.05':^43} {'both at 5 % clean':^21} {'published':>10}")
    names = ("evidence", "clean", "BBSDs", "clean", "evidence", "BBSDs", "BBSDs")
    print(f"{'n':>8} " + " ".join(f"{name:>10}" for name in names))
    for size, published in zip(SIZES, PUBLISHED, strict=True):
        if size not in found:
            continue
        clean, scores = np.array(null[size]), np.array(found[size])
        plain, false = (scores >= nominal).mean(axis=0), (clean >= nominal).mean(axis=0)
        equal = (scores > np.quantile(clean, 1 - ALPHA, axis=0)).mean(axis=0)
        print(f"{size:8,} {plain[0]:10.2f} {false[0]:10.3f} {plain[1]:10.2f} {false[1]:10.3f}"
              f" {equal[0]:10.2f} {equal[1]:10.2f} {published:10.2f}")  # fmt: skip
