"""Which pictures a person should label, so that few labels teach much: active learning on a pool of predictions.

Three ways take turns, since each alone has a blind spot (Settles 2009, sections 3 and 4). The least margin finds the
borders between classes. A quota for each class keeps any class from being forgotten. A quota for each cluster of
unusual pictures finds every new way of writing, where the least margins would show fifty examples of one.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.canonical import Pixels

# Whose turn it is. `python -m bench.labelling` compares it with one way alone, and with random choice.
TURNS: Final = ("uncertain", "novel", "class", "uncertain", "novel", "uncertain", "class", "novel", "uncertain")
UNUSUAL: Final = 500  # of the least certain pictures, at most, are clustered
CLUSTERS: Final = 12
ROUNDS: Final = 10  # of k-means
_POOLED: Final = 4  # a 28 x 28 image is clustered as 7 x 7 means


class Chosen(NamedTuple):
    """A picture to label."""

    row: int  # of the pool
    why: str  # one of `TURNS`


def choose(
    probabilities: NDArray[np.float32], pixels: Pixels, count: int, *, labelled: Sequence[int], turn: int = 0
) -> list[Chosen]:
    """Chooses `count` of n predictions, or all where there are fewer, in the order in which to ask.

    `probabilities` is n x classes, `pixels` n x 28 x 28 uint8. `labelled` says how many labels each class has already,
    and `turn` how many pictures were chosen before: so many small calls keep the same quotas as a large one.
    """
    orders = {
        "uncertain": iter(np.argsort(margins(probabilities), kind="stable").tolist()),
        "class": _by_class(probabilities, list(labelled)),
        "novel": _by_cluster(probabilities, pixels, _before(turn)),
    }
    taken: dict[int, str] = {}
    for place in range(turn, turn + min(count, len(pixels))):
        why = TURNS[place % len(TURNS)]
        row = next((row for row in orders[why] if row not in taken), None)
        if row is None:  # the clusters are used up; the least certain never are
            why = "uncertain"
            row = next(row for row in orders[why] if row not in taken)
        taken[row] = why
    return [Chosen(row, why) for row, why in taken.items()]


def margins(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much more probable the answer is than the second answer: n values of 0..1."""
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities), np.float32)
    highest: NDArray[np.float32] = np.partition(probabilities, -2, axis=1)
    return highest[:, -1] - highest[:, -2]


def _by_class(probabilities: NDArray[np.float32], labelled: list[int]) -> Iterator[int]:
    """All rows: always the least certain one of the class, as the model reads it, that has the fewest labels."""
    digits = probabilities.argmax(axis=1)
    order = np.argsort(margins(probabilities), kind="stable")
    of_class = {digit: order[digits[order] == digit].tolist()[::-1] for digit in range(probabilities.shape[1])}
    while waiting := [digit for digit, rows in of_class.items() if rows]:
        digit = min(waiting, key=labelled.__getitem__)
        labelled[digit] += 1
        yield of_class[digit].pop()


def _before(turn: int) -> int:
    """How many of the turns before this one were for a cluster."""
    rounds, rest = divmod(turn, len(TURNS))
    return rounds * TURNS.count("novel") + TURNS[:rest].count("novel")


def _by_cluster(probabilities: NDArray[np.float32], pixels: Pixels, first: int) -> Iterator[int]:
    """The unusual pictures: of each cluster in turn, from number `first` on, the one that is nearest to its centre."""
    rows = np.argsort(margins(probabilities), kind="stable")[: min(UNUSUAL, len(pixels) // 2)]
    if not len(rows):
        return
    side = pixels.shape[1] // _POOLED
    small = pixels[rows].reshape(len(rows), side, _POOLED, side, _POOLED).mean(axis=(2, 4)).reshape(len(rows), -1)
    cluster, distance = clusters(small / 255, CLUSTERS)
    order = np.argsort(distance, kind="stable")
    members = [rows[order[cluster[order] == number]].tolist()[::-1] for number in range(cluster.max() + 1)]
    number = first
    while any(members):
        if group := members[number % len(members)]:
            yield group.pop()
        number += 1


def clusters(points: NDArray[np.float64], count: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """k-means: the cluster of each of n x d points, and its squared distance to the cluster's centre.

    The first centres are drawn as k-means++ does (Arthur and Vassilvitskii 2007), with a fixed seed: the same points
    have the same clusters.
    """
    rng = np.random.default_rng(0)
    centres = points[rng.integers(len(points), size=1)]
    while len(centres) < min(count, len(points)):
        nearest = _distances(points, centres).min(axis=1)
        if not nearest.sum() > 0:  # fewer different points than clusters
            break
        centres = np.vstack([centres, points[rng.choice(len(points), p=nearest / nearest.sum())]])
    for _ in range(ROUNDS):
        cluster = _distances(points, centres).argmin(axis=1)
        for number in range(len(centres)):
            if (mine := cluster == number).any():
                centres[number] = points[mine].mean(axis=0)
    distances = _distances(points, centres)
    cluster = distances.argmin(axis=1)
    return cluster, distances[np.arange(len(points)), cluster]


def _distances(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """The squared distance of each point to each centre, n x k."""
    squared = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    distances: NDArray[np.float64] = np.maximum(squared, 0)
    return distances
