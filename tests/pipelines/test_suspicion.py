"""Who is held back: beside a numerical integral, and in simulations with an answer."""

import numpy as np
import pytest
from scipy.integrate import quad

from pipelines.suspicion import Limits, Opinions, log_evidence, suspects

LIMITS = Limits(significance=0.01, tolerance=0.05, golden_floor=0.9, checked=5)


@pytest.mark.parametrize(("wrong", "count", "rate"), [(0, 20, 0.1), (3, 20, 0.1), (9, 10, 0.3), (5, 5, 0.05)])
def test_the_evidence_is_the_average_likelihood_ratio_over_greater_rates(wrong, count, rate):
    ratio = lambda p: (p / rate) ** wrong * ((1 - p) / (1 - rate)) ** (count - wrong)  # noqa: E731
    assert np.exp(log_evidence(wrong, count, rate)) == pytest.approx(quad(ratio, rate, 1)[0] / (1 - rate))


def test_the_evidence_against_an_innocent_person_seldom_ever_passes_the_bound():
    """One looks after each of 500 labels; among 1,000 people, at most a tenth may ever pass a bound of 10 (Ville)."""
    wrong = (np.random.default_rng(0).random((1000, 500)) < 0.1).cumsum(axis=1)
    passed = (log_evidence(wrong, np.arange(1, 501), 0.1) >= np.log(10)).any(axis=1)
    assert 0 < passed.mean() <= 0.1


def crowd(*, people=20, each=40, misread=0.03, days=5, seed=0):
    """Honest people: columns people, days, predicted, labels, known. The model misreads a share of their pictures."""
    rng = np.random.default_rng(seed)
    count = people * each
    labels = rng.integers(0, 10, count)
    predicted = np.where(rng.random(count) < misread, (labels + rng.integers(1, 10, count)) % 10, labels)
    who = np.repeat([f"p{i}".encode() for i in range(people)], each)
    return {"people": who, "days": rng.integers(0, days, count), "predicted": predicted, "labels": labels,
            "known": np.full(count, -1)}  # fmt: skip


def found(columns, limits=LIMITS):
    return suspects(Opinions(**columns), 10, limits)


def without(columns, person):
    rows = columns["people"] != person.encode()
    return {name: column[rows] for name, column in columns.items()}


@pytest.mark.parametrize("seed", range(5))
def test_honest_people_are_not_held_back(seed):
    assert found(crowd(seed=seed)) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_everybody_disagrees_with_makes_nobody_suspicious(seed):
    assert found(crowd(misread=0.4, seed=seed)) == []


def test_a_person_who_labels_at_random_is_held_back_with_all_labels():
    columns = crowd()
    own = columns["people"] == b"p7"
    columns["labels"][own] = np.random.default_rng(1).integers(0, 10, own.sum())
    [first, *others] = found(columns)
    assert (first.kind, first.who, first.why) == ("person", "p7", "disagrees with the model")
    assert first.held.tolist() == np.flatnonzero(own).tolist()
    assert first.wrong > 25
    assert all(other.who == "p7" for other in others)


def test_a_person_who_disagrees_a_little_more_often_than_the_others_is_not_held_back():
    columns = crowd(each=300, misread=0)
    own = np.flatnonzero(columns["people"] == b"p7")[::25]
    columns["predicted"][own] = (columns["labels"][own] + 1) % 10
    assert found(columns) == []


def test_a_day_is_compared_with_other_days_alone():
    columns = crowd(each=100, days=1)
    columns["predicted"][columns["labels"] == 4] = 9  # from the first day on, for everybody
    assert found(columns) == []


def test_a_person_who_sends_one_class_alone_is_not_held_back():
    columns = crowd(each=200, misread=0.05)
    own = columns["people"] == b"p7"
    columns["labels"][own], columns["predicted"][own] = 4, 4
    columns["predicted"][np.flatnonzero(own)[:10]] = 9  # an error in twenty, all alike: nobody else labels a 9 as 4
    assert found(columns) == []


def test_a_person_who_changes_one_class_is_held_back():
    columns = crowd(each=100)
    fours = (columns["people"] == b"p7") & (columns["predicted"] == 4)
    columns["labels"][fours] = 9
    assert fours.sum() >= 4
    [suspect] = found(columns)
    assert (suspect.who, suspect.why) == ("p7", "labels pictures 9 that the model reads as 4")
    assert len(suspect.held) == 100


def test_many_new_people_of_one_day_who_change_one_class_are_held_back_with_these_labels_alone():
    columns = crowd(people=60, each=60, days=30)
    attack = (columns["days"] == 12) & (columns["predicted"] == 4)
    columns["people"] = columns["people"].astype("S16")
    columns["people"][attack] = [f"new{i}".encode() for i in range(attack.sum())]
    columns["labels"][attack] = 9
    assert attack.sum() >= 4
    [suspect] = found(columns)
    assert (suspect.kind, suspect.who) == ("day", "1970-01-13")
    assert suspect.held.tolist() == np.flatnonzero(attack).tolist()


def test_trusted_people_clear_whoever_they_agree_with():
    columns = crowd(each=300)
    own = np.flatnonzero((columns["people"] == b"p7") & (columns["labels"] == 7))
    columns["predicted"][own] = 1  # the model misreads this hand
    assert {suspect.who for suspect in found(columns)} == {"p7"}
    columns["known"][own[:4]] = columns["labels"][own[:4]]
    assert {suspect.who for suspect in found(columns)} == {"p7"}
    columns["known"][own[:5]] = columns["labels"][own[:5]]
    assert found(columns) == []


def test_whoever_contradicts_trusted_people_is_held_back():
    columns = crowd()
    own = np.flatnonzero(columns["people"] == b"p7")
    columns["known"][own[:10]] = (columns["labels"][own[:10]] + 1) % 10
    [suspect] = found(columns)
    assert (suspect.who, suspect.why) == ("p7", "contradicts trusted people")
    assert (suspect.wrong, suspect.count) == (10, 10)


def test_one_person_alone_cannot_be_told_from_the_others():
    only = {name: column[:40] for name, column in crowd(misread=0.3, days=1).items()}
    assert found(only) == []
