"""What a person is asked to label."""

from collections import Counter

import numpy as np
import pytest

from model.selection import CLUSTERS, TURNS, choose, clusters, margins
from tests.bundles import DIGITS

CLASSES = 10


def pool(count, seed=0):
    """Random probabilities, and the pictures of ten digits with noise."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(CLASSES, 0.3), count).astype(np.float32)
    pixels = DIGITS[rng.integers(0, CLASSES, count)] // 2 + rng.integers(0, 60, (count, 28, 28), np.uint8)
    return probabilities, pixels


def test_a_margin_is_between_the_two_best_answers():
    assert margins(np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0]], np.float32)) == pytest.approx([0.5, 0])
    assert margins(np.ones((2, 1), np.float32)).tolist() == [1, 1]


@pytest.mark.parametrize("count", [0, 1, 9, 30, 200, 1000])
def test_each_picture_is_chosen_once_and_the_ways_take_turns(count):
    probabilities, pixels = pool(200)
    found = choose(probabilities, pixels, count, labelled=[0] * CLASSES)
    assert len({one.row for one in found}) == len(found) == min(count, 200)
    first = [one.why for one in found[:90]]
    assert first == [TURNS[place % len(TURNS)] for place in range(len(first))]


def test_many_small_calls_keep_the_quotas_of_one_large():
    probabilities, pixels = pool(400)
    left, labelled, why = np.arange(400), [0] * CLASSES, []
    for turn in range(45):
        (one,) = choose(probabilities[left], pixels[left], 1, labelled=labelled, turn=turn)
        why.append(one.why)
        if one.why == "class":
            labelled[probabilities[left[one.row]].argmax()] += 1
        left = np.delete(left, one.row)
    assert Counter(why) == {kind: 5 * TURNS.count(kind) for kind in {*TURNS}}
    assert labelled == [1] * CLASSES


def test_the_least_certain_come_first():
    probabilities, pixels = pool(300)
    found = [one.row for one in choose(probabilities, pixels, 90, labelled=[0] * CLASSES) if one.why == "uncertain"]
    assert found[0] == margins(probabilities).argmin()
    assert np.all(np.diff(margins(probabilities)[found]) >= 0)


def test_the_class_with_the_fewest_labels_comes_first():
    probabilities, pixels = pool(300)
    labelled = [5] * CLASSES
    labelled[4], labelled[7] = 0, 1
    found = choose(probabilities, pixels, 27, labelled=labelled)
    digits = [int(probabilities[one.row].argmax()) for one in found if one.why == "class"]
    assert digits[0] == 4
    assert {*digits} == {4, 7}


def test_each_way_of_writing_is_asked_for_however_rare():
    """40 blobs at the top, and 3 at the bottom, all of them uncertain, among many ordinary pictures."""
    probabilities, pixels = pool(300)
    probabilities[:] = np.eye(CLASSES)[np.arange(300) % CLASSES]
    rng, rare = np.random.default_rng(1), slice(40, 43)
    for rows, where in ((slice(0, 40), slice(0, 8)), (rare, slice(20, 28))):
        probabilities[rows] = 0
        probabilities[rows, :2] = (0.505, 0.495) if rows != rare else (0.52, 0.48)
        pixels[rows] = 0
        pixels[rows, where] = rng.integers(150, 255, pixels[rows, where].shape)
    found = choose(probabilities, pixels, 27, labelled=[0] * CLASSES)
    assert any(40 <= one.row < 43 for one in found if one.why == "novel")
    assert not any(40 <= one.row < 43 for one in found if one.why == "uncertain")


def test_clusters_are_found_and_are_the_same_each_time():
    rng = np.random.default_rng(2)
    centres = np.array([[0, 0], [10, 0], [0, 10]])
    of = rng.integers(0, 3, 200)
    points = centres[of] + rng.normal(size=(200, 2)) * 0.3
    cluster, distance = clusters(points, 3)
    assert all(len({*cluster[of == number]}) == 1 for number in range(3))
    assert distance.max() < 3
    assert np.array_equal(cluster, clusters(points, 3)[0])


def test_equal_points_are_one_cluster():
    cluster, distance = clusters(np.ones((5, 3)), 3)
    assert cluster.tolist() == [0] * 5
    assert distance.max() == 0


def test_small_calls_go_from_cluster_to_cluster():
    probabilities, pixels = pool(300)
    novel = [place for place in range(90) if TURNS[place % len(TURNS)] == "novel"]
    rows = [choose(probabilities, pixels, 1, labelled=[0] * CLASSES, turn=turn)[0].row for turn in novel]
    assert len({*rows}) == CLUSTERS
