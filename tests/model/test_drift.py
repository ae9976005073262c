"""The evidence of drift: exact under the null hypothesis, the same however it was merged, and large after a change."""

import io
import itertools
from fractions import Fraction

import numpy as np
import pytest

from model.drift import BINS, HARM, BadReference, Evidence, Reference, log_bet
from model.epochs import StateError, kept
from model.statistics import NAMES, ties
from tests.archives import HOSTILE

CONFIDENCE = NAMES.index("confidence")


def drawn(count, seed, *, unsure=0.0, classes=10):
    """Values as a good model's: confidences near 1 that often tie. `unsure` raises the share of low ones.

    `seed` is a number, or a generator to draw on from.
    """
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, len(NAMES)))
    values[:, 0] = rng.integers(0, classes, count)
    values[:, CONFIDENCE] = np.round(1 - np.exp(values[:, CONFIDENCE] * 1.5 - 5 + unsure).clip(0, 0.9), 3)
    return values


def named(prefix, count):
    return ties([f"{prefix}-{number}" for number in range(count)])


@pytest.fixture(scope="module")
def reference():
    values = drawn(1000, 1)
    return Reference.of(values, np.arange(1000) >= 7)


def streamed(reference, batches):
    made = Evidence(reference)
    for epoch, values in batches:
        made.add(values, named(epoch, len(values)), epoch)
    return made


# Under the null hypothesis


@pytest.mark.parametrize(("gaps", "first", "then"), [((1, 1), 3, 3), ((2, 1, 3), 2, 3), ((1, 0, 4), 0, 5)])
def test_the_bets_mean_is_1_for_every_past(gaps, first, then):
    """Over all paths with their exact probabilities, (m + N) / (n + 1 + t) at each step."""
    for past in itertools.product(range(len(gaps)), repeat=first):
        before = np.bincount(past, minlength=len(gaps)) * (np.array(gaps) > 0)
        mean = 0.0
        for path in itertools.product(range(len(gaps)), repeat=then):
            probability, counts = Fraction(1), before.tolist()
            for place in path:
                probability *= Fraction((gaps[place] + counts[place]) * (gaps[place] > 0), sum(gaps) + sum(counts))
                counts[place] += 1
            if probability:
                since = np.bincount(path, minlength=len(gaps))
                mean += float(probability) * float(np.exp(log_bet(np.array(gaps), before, since)))
        assert mean == pytest.approx(1, rel=1e-12)


def test_the_e_process_has_the_mean_1_over_all_orders_of_the_same_values():
    """From first principles: reference and stream are exchangeable, so each order of five values is as likely."""
    means = dict.fromkeys(NAMES, 0.0)
    for order in itertools.permutations(range(5)):
        values = np.repeat(np.array(order, float)[:, None], len(NAMES), axis=1)
        reference = Reference.of(values[:3], np.ones(3, bool))
        found = streamed(reference, enumerate(values[3:, None])).log_evidence()
        for name in NAMES:
            means[name] += np.exp(found[name]) / 120
    assert means == {name: pytest.approx(1, rel=1e-12) for name in NAMES}


def test_restarts_that_are_not_kept_only_lower_the_mean():
    mean = 0.0
    for path in itertools.product(range(2), repeat=6):
        probability, counts = Fraction(1), [2, 2]
        for place in path:
            probability *= Fraction(counts[place], sum(counts))
            counts[place] += 1
        values = np.where(np.array(path) == 1, 5.0, -5.0)
        reference = Reference.of(np.repeat([[-1.0], [0.0], [1.0]], len(NAMES), axis=1), np.ones(3, bool))
        tested = Reference(reference.gaps.copy(), reference.edges, reference.edge_ties, reference.baseline)
        tested.gaps[:, :4], tested.edges[:, :], tested.edges[:, 0] = [2, 2, 0, 0], np.inf, 0
        batches = [(30 * step, np.full((1, len(NAMES)), value)) for step, value in enumerate(values)]
        mean += float(probability) * float(np.exp(streamed(tested, batches).log_evidence()["ink"]))
    assert 0.3 < mean < 1


def test_values_from_the_references_distribution_raise_no_alarm():
    """At level 1/20, of 40 streams that are looked at 5 times each, each with a reference of its own."""
    rng, highest = np.random.default_rng(2), []
    for stream in range(40):
        made = Evidence(Reference.of(drawn(300, rng), np.ones(300, bool)))
        looks = []
        for epoch in range(20):
            made.add(drawn(50, rng), named(f"{stream} {epoch}", 50), epoch)
            if epoch % 4 == 3:
                looks.append((made.average(NAMES), made.average(HARM)))
        highest.append(np.max(looks, axis=0))
    assert (np.array(highest) > np.log(20)).mean(axis=0).max() <= 1 / 20


def test_ties_alone_prove_nothing():
    """Every value is the same: without ties that order them, all would lie in one bin."""
    same = np.ones((500, len(NAMES)))
    found = streamed(Reference.of(same, np.ones(500, bool)), ((epoch, same) for epoch in range(10)))
    assert max(found.log_evidence().values()) < np.log(20)


# After a change


def test_a_change_is_proved_by_its_own_statistic(reference):
    rng = np.random.default_rng(3)
    found = streamed(reference, ((epoch, drawn(50, rng, unsure=0.7)) for epoch in range(10))).log_evidence()
    assert found["confidence"] > np.log(1e6)
    assert all(found[name] < np.log(20) for name in NAMES if name != "confidence")


def test_a_flood_of_one_class_is_proved(reference):
    rng = np.random.default_rng(3)
    found = streamed(reference, ((epoch, drawn(50, rng, classes=7)) for epoch in range(10)))
    assert found.log_evidence()["class"] > np.log(1e6)
    assert found.average(HARM) > np.log(1e5)


@pytest.mark.parametrize("first", [0, 490_000])
def test_a_late_change_is_proved_and_dated(reference, first):
    rng, made = np.random.default_rng(4), Evidence(reference)
    for epoch in range(first, first + 300):
        made.add(drawn(50, rng), named(epoch, 50), epoch)
    assert made.average(HARM) < np.log(20)
    for epoch in range(first + 300, first + 320):
        made.add(drawn(50, rng, unsure=0.7), named(epoch, 50), epoch)
    assert made.average(HARM) > np.log(1e6)
    assert first + 296 <= made.since("confidence") <= first + 306
    counts = made.counts("confidence")
    assert counts[0] / counts.sum() > 2 * reference.shares("confidence")[0]


def test_a_small_reference_proves_less():
    rng = np.random.default_rng(5)
    values, changed = drawn(5000, rng), drawn(500, rng, unsure=0.7)
    logs = []
    for count in (20, 200, 5000):
        made = Evidence(Reference.of(values[:count], np.ones(count, bool)))
        made.add(changed, named("x", 500), 0)
        logs.append(made.log_evidence()["confidence"])
    assert logs == sorted(logs)
    assert logs[0] < np.log(1e6) < logs[2]


# Counters


def test_without_a_prediction_there_is_no_evidence(reference):
    made = Evidence(reference)
    made.add(np.empty((0, len(NAMES))), np.empty((0, len(NAMES))), 3)
    assert made.log_evidence() == dict.fromkeys(NAMES, 0.0)
    assert made.average(NAMES) == 0
    assert made.count == 0
    assert made.since("ink") is None
    assert made.counts("ink").tolist() == [0] * len(reference.shares("ink"))


def test_the_first_epoch_stakes_only_its_share(reference):
    made = Evidence(reference)
    made.add(drawn(1, 0), named("a", 1), 7)
    assert all(abs(found) < 0.5 for found in made.log_evidence().values())
    assert made.since("ink") == 7


def test_the_average_is_of_the_e_values(reference):
    made = streamed(reference, [(0, drawn(100, 0, unsure=0.5))])
    logs = made.log_evidence()
    assert np.exp(made.average(HARM)) == pytest.approx((np.exp(logs["confidence"]) + np.exp(logs["class"])) / 2)


def test_replicas_in_any_order_equal_one_stream(reference):
    rng = np.random.default_rng(6)
    values, tied, epochs = drawn(600, rng), named("x", 600), np.sort(rng.integers(0, 200, 600))
    whole, parts, replica = Evidence(reference), [Evidence(reference) for _ in range(3)], rng.integers(0, 3, 600)
    for epoch in np.unique(epochs):
        rows = epochs == epoch
        whole.add(values[rows], tied[rows], int(epoch))
        for number, part in enumerate(parts):
            part.add(values[rows & (replica == number)], tied[rows & (replica == number)], int(epoch))
    for a, b, c in itertools.permutations(parts):
        assert (a + (b + c)).dumps() == ((a + b) + c).dumps() == whole.dumps()
        assert ((a + b) + c).log_evidence() == whole.log_evidence()
    assert whole.count == 600


def test_one_prediction_at_a_time_equals_a_batch(reference):
    values, tied = drawn(200, 0), named("x", 200)
    batch, single = Evidence(reference), Evidence(reference)
    batch.add(values, tied, 4)
    for row in range(200):
        single.add(values[row : row + 1], tied[row : row + 1], 4)
    assert single.dumps() == batch.dumps()


def test_stored_evidence_is_what_it_was(reference):
    made = streamed(reference, ((epoch, drawn(20, epoch)) for epoch in range(100)))
    again = Evidence.loads(made.dumps(), Reference.parse(reference.dumps()))
    assert again.log_evidence() == made.log_evidence()
    assert again.dumps() == made.dumps()


def test_the_state_has_64_kilobytes_at_most(reference):
    """Billions in every bin of every restart that is kept, for epochs of an hour in the year 2100."""
    made, rng, newest = Evidence(reference), np.random.default_rng(7), 1_139_000
    used = made.reference.gaps.ravel() > 0
    for epoch in sorted(
        {kept(newest, epoch) for epoch in (*range(0, newest, 1000), *range(newest - 9000, newest + 1))}
    ):
        made._epochs.add(rng.integers(0, 2**31, used.size) * used, epoch)
    assert len(list(made._epochs.restarts())) > 40
    assert 20_000 < len(made.dumps()) <= 64 * 1024


# What is refused


def test_evidence_against_two_references_is_not_mixed(reference):
    other = Reference.of(drawn(1000, 0), np.ones(1000, bool))
    with pytest.raises(ValueError, match="against two references cannot be added"):
        Evidence(reference) + Evidence(other)
    with pytest.raises(StateError, match=r"are of reference .*, not of"):
        Evidence.loads(streamed(reference, [(0, drawn(5, 0))]).dumps(), other)


def test_evidence_whose_statistics_have_different_counts_is_refused(reference):
    made = streamed(reference, [(0, drawn(5, 0))])
    made._epochs.add(np.eye(1, len(NAMES) * BINS, dtype=int)[0], 0)
    with pytest.raises(StateError, match="the statistics have different counts"):
        Evidence.loads(made.dumps(), reference)


@pytest.mark.parametrize("data", [b"", b"PK", b"\0" * 1000])
def test_damaged_evidence_is_refused(reference, data):
    with pytest.raises(StateError, match=r"are damaged: not an \.npz file"):
        Evidence.loads(data, reference)


@pytest.mark.parametrize(
    ("values", "tied", "said"),
    [
        (np.ones((3, 2)), np.ones((3, 2)), r"values of shape \(3, 2\), not n x 9"),
        (np.ones(9), np.ones(9), r"values of shape \(9,\), not n x 9"),
        (np.ones((3, 9)), np.ones((2, 9)), r"ties of shape \(2, 9\) for values of shape \(3, 9\)"),
        (np.full((3, 9), np.nan), np.ones((3, 9)), "a statistic is not finite"),
    ],
)
def test_values_of_another_shape_are_refused(reference, values, tied, said):
    with pytest.raises(ValueError, match=said):
        Evidence(reference).add(values, tied, 0)


# The reference


def test_the_reference_knows_its_errors(reference):
    assert (reference.count, reference.error) == (1000, 0.007)
    confidence = drawn(1000, 1)[:, CONFIDENCE]
    assert reference.atc_threshold == np.sort(confidence)[7]
    assert reference.baseline.errors == 7


@pytest.mark.parametrize("count", [1, 2, 10, 143, 2143])
def test_every_gap_is_in_one_bin(count):
    found = Reference.of(drawn(count, 0), np.ones(count, bool))
    assert (found.gaps.sum(axis=1) == count + 1).all()
    assert found.shares("confidence").sum() == pytest.approx(1)
    assert (found.shares("confidence") > 0).all()
    again = Reference.parse(found.dumps())
    assert again.dumps() == found.dumps()
    assert again.baseline == found.baseline


def test_each_class_has_its_bin_and_the_rarest_share_one_if_there_are_too_many():
    places = np.repeat(np.arange(26), np.arange(1, 27))  # 1 of the first class, 26 of the last
    values = np.zeros((len(places), len(NAMES)))
    values[:, 0] = places
    few, many = Reference.of(values[:55], np.ones(55, bool)), Reference.of(values, np.ones(len(places), bool))
    assert few.gaps[0, :11].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 0]
    assert (many.gaps[0] > 0).sum() == BINS
    assert many.gaps[0, -1] == 27


def test_a_class_that_the_reference_lacks_is_counted(reference):
    values = drawn(200, 0)
    values[:, 0] = 12
    assert streamed(reference, [(0, values)]).log_evidence()["class"] > np.log(1e6)


def changed(reference, **changes):
    file = io.BytesIO()
    with np.load(io.BytesIO(reference.dumps())) as arrays:
        kept = {name: array for name, array in ({**arrays} | changes).items() if array is not None}
    np.savez(file, **kept)
    return file.getvalue()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gaps": None}, "reference.npz has no 'gaps': export the model again with this code"),
        ({"edges": np.zeros((9, 3))}, "its bins contradict each other"),
        ({"gaps": np.ones((9, BINS))}, "its bins contradict each other"),
        ({"edges": np.full((9, BINS - 1), np.nan)}, "its bins contradict each other"),
        ({"edge_ties": np.full((9, BINS - 1), 2.0)}, "its bins contradict each other"),
        ({"counts": np.array([1000, 7, 3])}, "its counts are no counts"),
        ({"counts": np.array([1000.0, 7, 3, 3])}, "its counts are no counts"),
        ({"counts": np.array([999, 7, 3, 3])}, "its bins contradict each other"),
        ({"counts": np.array([1000, 7, 8, 3])}, "its counts contradict each other"),
        ({"threshold": np.array(np.nan)}, "its counts contradict each other"),
        ({"more": np.zeros(1)}, "6 arrays, at most 5 are read"),
    ],
)
def test_a_damaged_reference_is_refused_with_the_reason(reference, changes, said):
    with pytest.raises(BadReference, match=said):
        Reference.parse(changed(reference, **changes))


@pytest.mark.parametrize("name", ["claiming", "of objects", "no zip"])
def test_a_hostile_reference_is_refused(name):
    with pytest.raises(BadReference):
        Reference.parse(HOSTILE[name][0]())


def test_no_predictions_are_no_reference():
    with pytest.raises(ValueError, match="0 confidences"):
        Reference.of(np.empty((0, len(NAMES))), np.empty(0, bool))
