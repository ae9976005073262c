"""Counters by epoch: thinned, and the same however they were merged."""

import io
import itertools

import numpy as np
import pytest

from model.epochs import LAST, SPACING, Epochs, StateError, kept, reserve, weight
from tests.archives import HOSTILE

DIGEST = b"what was counted"


def filled(epochs, width=3, seed=0):
    rng = np.random.default_rng(seed)
    made = Epochs(width)
    for epoch in epochs:
        made.add(rng.integers(0, 9, width), epoch)
    return made


def dumped(epochs, digest=DIGEST):
    file = io.BytesIO()
    np.savez_compressed(file, **epochs.arrays(digest))
    return file.getvalue()


def test_the_shares_of_all_restarts_are_1_at_most():
    assert sum(map(weight, range(1000))) + reserve(999) == pytest.approx(1)
    assert all(weight(number) > 0 for number in range(1000))


def test_an_epoch_is_kept_by_a_rule_of_its_number_and_the_newest():
    for newest in (0, 1, 7, 100, 1023):
        rule = [k for k in range(newest + 1) if k == 0 or newest - k <= SPACING * (k & -k)]
        for epoch in range(newest + 1):
            assert kept(newest, epoch) == max(k for k in rule if k <= epoch)


def test_few_restarts_are_kept_and_one_is_near_any_change():
    made = filled(range(5000))
    starts = [epoch for epoch, _, _ in made.restarts()]
    assert len(starts) < 6 * SPACING + SPACING * np.log2(5000)
    for change in range(1, 5000):
        age = 4999 - change
        assert min(abs(change - start) for start in starts) <= 1 + age / SPACING


def test_nothing_that_was_counted_is_lost():
    made, total = Epochs(2), np.zeros(2, int)
    for epoch in range(0, 900, 7):
        made.add(np.array([epoch, 1]), epoch)
        total += [epoch, 1]
    assert made.total().tolist() == total.tolist()
    *_, (epoch, number, since) = made.restarts()
    assert (epoch, number, since.tolist()) == (0, 0, total.tolist())
    assert next(counts.tolist() for _, _, counts in made.restarts()) == [896, 1]


def test_the_first_restart_is_at_the_first_epoch_however_the_epochs_are_numbered():
    late, early = filled(range(490_001, 490_100)), filled(range(99))
    assert [number for _, number, _ in late.restarts()][-1] == [number for _, number, _ in early.restarts()][-1] == 0
    assert [epoch for epoch, _, _ in late.restarts()][-1] == 490_001
    assert all(epoch - number == 490_001 for epoch, number, _ in late.restarts())


@pytest.mark.parametrize("first", [0, 1, 490_001])
def test_merging_in_any_order_equals_one_stream(first):
    rng = np.random.default_rng(first)
    one, parts = Epochs(4), [Epochs(4) for _ in range(4)]
    for epoch in first + np.sort(rng.integers(0, 300, 400)):
        counts, part = rng.integers(0, 5, 4), parts[rng.integers(3)]  # the last part stays empty
        one.add(counts, int(epoch))
        part.add(counts, int(epoch))
    for order in itertools.permutations(parts):
        assert dumped(sum(order[1:], order[0])) == dumped(one)
    assert dumped((parts[0] + parts[1]) + (parts[2] + parts[3])) == dumped(one)


def test_what_is_merged_can_still_grow():
    one, a, b = filled(range(50)), filled(range(50)), Epochs(3)
    both = a + b
    for made in (one, both):
        made.add(np.array([1, 2, 3]), 70)
    assert dumped(both) == dumped(one)
    assert dumped(a) == dumped(filled(range(50)))  # the parts are not changed


@pytest.mark.parametrize("epoch", [-1, LAST + 1])
def test_an_epoch_out_of_range_is_refused(epoch):
    with pytest.raises(ValueError, match=r"is not within 0..4,294,967,296"):
        Epochs(1).add(np.ones(1, int), epoch)


def test_counters_of_other_kinds_are_not_added():
    with pytest.raises(ValueError, match="of 3 kinds and of 2 kinds"):
        filled([1]) + filled([1], width=2)


@pytest.mark.parametrize("epochs", [[], [0], range(3, 200)])
def test_stored_counters_are_read_as_they_were(epochs):
    made = filled(epochs)
    again = Epochs.parse(dumped(made), 3, DIGEST)
    assert dumped(again) == dumped(made)
    again.add(np.ones(3, int), 200)
    made.add(np.ones(3, int), 200)
    assert dumped(again) == dumped(made)


def changed(**changes):
    arrays = filled(range(20)).arrays(DIGEST) | changes
    file = io.BytesIO()
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    return file.getvalue()


GOOD = filled(range(20)).arrays(DIGEST)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"digest": np.frombuffer(b"another", np.uint8)}, "are of reference 616e6f746865, not of 776861742077"),
        ({"counts": None}, "the stored counters have no 'counts'"),
        ({"counts": -GOOD["counts"]}, "damaged: .* counts for"),
        ({"counts": GOOD["counts"][:, :2]}, "damaged: .* counts for"),
        ({"counts": GOOD["counts"] * 1.0}, "they are not integers"),
        ({"span": np.array([0])}, "they are not integers"),
        ({"span": np.array([0, 21])}, "their epochs contradict each other"),
        ({"span": np.array([-1, -1])}, "their epochs contradict each other"),
        ({"starts": GOOD["starts"][::-1]}, "their epochs contradict each other"),
        ({"starts": GOOD["starts"][:0], "counts": GOOD["counts"][:0]}, "their epochs contradict each other"),
    ],
)
def test_damaged_counters_are_refused_with_the_reason(changes, said):
    with pytest.raises(StateError, match=said):
        Epochs.parse(changed(**changes), 3, DIGEST)


@pytest.mark.parametrize("name", ["claiming", "of objects", "no zip"])
def test_hostile_counters_are_refused(name):
    with pytest.raises(StateError):
        Epochs.parse(HOSTILE[name][0](), 3, DIGEST)
