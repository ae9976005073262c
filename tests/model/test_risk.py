"""Error rates: the intervals hold at every moment, and are known in closed form."""

import itertools
from dataclasses import asdict
from math import log

import numpy as np
import pytest
from scipy.stats import binomtest

from model.epochs import StateError, weight
from model.risk import (
    Baseline,
    ConfidenceSequence,
    Interval,
    atc_threshold,
    clopper_pearson,
    mixture_interval,
)

ALPHA = 0.2  # large, so that the intervals miss often enough to be judged


def sequence(values, epochs=None):
    made = ConfidenceSequence()
    for value, epoch in zip(values, epochs or [0] * len(values), strict=True):
        made.add(np.array([value]), epoch)
    return made


@pytest.mark.parametrize("mean", [0.02, 0.3, 0.5, 0.9])
def test_the_mean_is_ever_outside_with_probability_alpha_at_most(mean):
    """Exact: the paths that have never missed the mean are counted, without a random number."""
    inside = np.zeros((62, 62))
    inside[0, 0] = 1
    missed = 0.0
    for count in range(60):
        for ones in range(count + 1):
            for one, probability in ((1, mean), (0, 1 - mean)):
                mass = inside[count, ones] * probability
                found = mixture_interval(ones + one, count - ones + 1 - one, ALPHA)
                if found.low <= mean <= found.high:
                    inside[count + 1, ones + one] += mass
                else:
                    missed += mass
    assert 0.01 * ALPHA < missed <= ALPHA


def test_the_ends_are_where_the_mixture_is_1_over_alpha_times_as_likely():
    found = mixture_interval(3, 17, 0.05)
    p = (np.arange(1_000_000) + 0.5) / 1_000_000
    # Beta(1/2, 1/2) in the angle: p = sin²; its density there is uniform
    angle = np.sin(p * np.pi / 2) ** 2
    mixture = np.mean(angle**3 * (1 - angle) ** 17)
    for end in (found.low, found.high):
        assert log(mixture / (end**3 * (1 - end) ** 17)) == pytest.approx(log(1 / 0.05), rel=1e-6)
    assert found.mean == 3 / 20
    assert found.count == 20


@pytest.mark.parametrize(("ones", "zeros", "low", "high"), [(0, 50, True, False), (50, 0, False, True)])
def test_values_that_are_all_equal_leave_one_end_open(ones, zeros, low, high):
    found = mixture_interval(ones, zeros, 0.05)
    assert ((found.low == 0) is low, (found.high == 1) is high) == (True, True)
    assert 0.05 < found.high - found.low < 0.15


def test_an_interval_of_very_many_values_is_found():
    found = mixture_interval(10**8, 10**10, 0.05)
    assert found.low < found.mean < found.high
    assert found.high - found.low < 2e-5


def test_without_values_the_mean_may_be_anything():
    found = ConfidenceSequence().interval(0.05)
    assert (found.low, found.high, found.count) == (0, 1, 0)
    assert np.isnan(found.mean)
    assert ConfidenceSequence().rise(0.05)[1] is ConfidenceSequence().fall(0.05)[1] is None


@pytest.mark.parametrize("values", [[0.5], [2], [np.nan], [-1]])
def test_other_values_than_0_and_1_are_refused(values):
    with pytest.raises(ValueError, match="takes values of 0 and 1 alone"):
        ConfidenceSequence().add(np.array(values))


@pytest.mark.parametrize("alpha", [0, 1, 5])
def test_an_alpha_that_is_no_probability_is_refused(alpha):
    with pytest.raises(ValueError, match="not between 0 and 1"):
        mixture_interval(1, 1, alpha)


def test_any_restart_lies_above_its_mean_with_probability_alpha_at_most():
    mean, length, missed = 0.3, 7, 0.0
    for values in itertools.product([0, 1], repeat=length):
        rises = (sequence(values[:n], list(range(n))).rise(ALPHA)[0].low for n in range(1, length + 1))
        if any(low > mean for low in rises):
            missed += mean ** sum(values) * (1 - mean) ** (length - sum(values))
    assert 0 < missed <= ALPHA


def test_each_restart_has_its_share_of_alpha():
    made = sequence([0, 0, 1, 1], [5, 6, 7, 8])
    since = [mixture_interval(min(n, 2), max(n - 2, 0), ALPHA * weight(4 - n)) for n in (1, 2, 3, 4)]
    assert made.rise(ALPHA)[0] == max(since, key=lambda found: found.low)
    assert made.fall(ALPHA)[0] == min(since, key=lambda found: found.high)


def test_a_late_rise_is_found_and_dated():
    """2 % errors, and 10 % in the last fifth: the interval of all values hides what the newest ones show."""
    rng = np.random.default_rng(0)
    made = ConfidenceSequence()
    for epoch in range(100):
        made.add(rng.random(50) < (0.1 if epoch >= 80 else 0.02), epoch)
    rise, since = made.rise(0.05)
    assert rise.low > 0.06 > made.interval(0.05).high
    assert 76 <= since <= 84
    fall, since = made.fall(0.05)
    assert fall.high == pytest.approx(made.interval(0.05).high, rel=0.1)
    assert since == 0


def test_sequences_of_replicas_add_up_and_are_stored():
    rng = np.random.default_rng(0)
    values, epochs = (rng.random(300) < 0.1).astype(int), sorted(rng.integers(0, 90, 300).tolist())
    whole = sequence(values, epochs)
    both = sequence(values[::2], epochs[::2]) + sequence(values[1::2], epochs[1::2])
    assert both.dumps() == whole.dumps()
    assert ConfidenceSequence.loads(both.dumps()).rise(0.05) == whole.rise(0.05)
    assert whole.count == 300
    with pytest.raises(StateError, match=r"not an \.npz file"):
        ConfidenceSequence.loads(b"")


@pytest.mark.parametrize(("successes", "count"), [(0, 143), (3, 100), (100, 100)])
def test_clopper_pearson_is_scipys_exact_interval(successes, count):
    expected = binomtest(successes, count).proportion_ci(0.95, "exact")
    found = clopper_pearson(successes, count, 0.05)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (2, 1), (-1, 1)])
def test_impossible_counts_are_refused(successes, count):
    with pytest.raises(ValueError, match="successes of"):
        clopper_pearson(successes, count, 0.05)


CONFIDENCE = np.array([0.3, 0.9, 0.5, 0.8, 0.6, 0.7, 0.95, 0.99])
RIGHT = np.array([False, False, True, True, True, True, True, True])


def test_the_threshold_has_as_many_below_it_as_are_wrong():
    assert atc_threshold(CONFIDENCE, RIGHT) == 0.6
    assert atc_threshold(CONFIDENCE, RIGHT | True) == 0.3
    assert atc_threshold(CONFIDENCE, RIGHT & False) == 0.99


def test_a_baseline_counts_errors_and_where_the_threshold_is_mistaken():
    found = Baseline.of(CONFIDENCE, RIGHT)
    assert found == Baseline(count=8, errors=2, threshold=0.6, wrong_above=1, right_below=1)
    assert found.error == 0.25
    assert found.confident(CONFIDENCE).mean() == 0.75


def test_few_errors_do_not_prove_that_there_are_none():
    perfect = Baseline.of(np.linspace(0.9, 1, 143), np.ones(143, bool))
    assert perfect.error == 0
    assert perfect.worst_error(0.05) == pytest.approx(1 - 0.025 ** (1 / 143))
    none = Interval(1.0, 1.0, 1.0, 10**6)
    assert perfect.accuracy(none, 0.05).low == pytest.approx(0.0125 ** (1 / 143))


def test_the_estimated_accuracy_is_widened_by_what_the_reference_leaves_open():
    base = Baseline(count=1000, errors=10, threshold=0.6, wrong_above=4, right_below=4)
    wrong = clopper_pearson(4, 1000, 0.025)
    found = base.accuracy(Interval(0.9, 0.88, 0.92, 500), 0.05)
    assert asdict(found) == {
        "mean": 0.9,
        "low": pytest.approx(0.88 - wrong.high + wrong.low),
        "high": pytest.approx(0.92 + wrong.high - wrong.low),
        "count": 500,
    }
    assert base.accuracy(Interval(1.0, 0.999, 1.0, 500), 0.05).high == 1


def test_the_estimate_is_right_for_a_calibrated_model_on_harder_data():
    rng = np.random.default_rng(0)

    def drawn(count, hardness):
        confidence = 1 - rng.beta(hardness, 8, count) / 2
        return confidence, rng.random(count) < confidence

    base = Baseline.of(*drawn(20_000, 0.5))
    confidence, right = drawn(20_000, 1.5)
    made = ConfidenceSequence()
    made.add(base.confident(confidence))
    found = base.accuracy(made.interval(0.025), 0.025)
    assert 0.5 < found.low < found.mean < found.high < 1
    assert found.mean == pytest.approx(right.mean(), abs=0.1)
    assert found.mean < 1 - base.error - 0.02


@pytest.mark.parametrize("count", [0, 3])
def test_a_baseline_needs_an_answer_for_each_confidence(count):
    with pytest.raises(ValueError, match=r"8 confidences|0 confidences"):
        Baseline.of(CONFIDENCE[: 8 if count else 0], RIGHT[:count])
