"""People and days whose labels look wrong: how often they differ from the model, beside how often the others' do.

All callers disagree with a model that has become bad. So nobody is suspicious for disagreeing, only for disagreeing far
more often than the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincc, betaln

DAY: Final = 86_400  # seconds
HIGHEST: Final = 0.999  # rate that the others may have: at 1, nothing could be more


@dataclass(frozen=True)
class Opinions:
    """Labels of n pictures, one of each person for each picture."""

    people: NDArray[np.bytes_]  # who labelled
    days: NDArray[np.int64]  # since 1970
    predicted: NDArray[np.integer]
    labels: NDArray[np.integer]
    known: NDArray[np.int64]  # the label of a trusted person; -1 where there is none

    @property
    def differs(self) -> NDArray[np.bool_]:
        """Where the person and the model disagree."""
        different: NDArray[np.bool_] = self.labels != self.predicted
        return different


@dataclass(frozen=True)
class Limits:
    """What is suspicious."""

    significance: float  # the chance that any innocent person or day is ever held back
    tolerance: float  # by which a rate may be above the others'
    golden_floor: float  # share of the trusted people's labels that a person's own must agree with
    checked: int  # of a person's labels against the model that trusted people must have confirmed to clear the person


@dataclass(frozen=True)
class Suspect:
    """A person or a day, and why. `held` are the places of the opinions that are held back."""

    kind: str  # person or day
    who: str
    why: str
    wrong: int
    count: int
    rate: float  # that is allowed
    log10_evidence: float
    held: NDArray[np.intp]


def log_evidence(wrong: Any, count: Any, rate: Any) -> Any:
    """Natural log of an e-value against "each of `count` is wrong with a probability of at most `rate`".

    The likelihood of the outcomes, averaged over all greater rates (Robbins 1970), through that at `rate`. It exceeds
    1/a with a probability of at most a, however often one looks.
    """
    right = np.subtract(count, wrong)
    with np.errstate(divide="ignore"):  # where nothing speaks for a greater rate, the average may be 0
        average = betaln(wrong + 1, right + 1) + np.log(betaincc(wrong + 1, right + 1, rate)) - np.log1p(-rate)
    return average - wrong * np.log(rate) - right * np.log1p(-rate)


def suspects(opinions: Opinions, classes: int, limits: Limits) -> list[Suspect]:
    """Everybody and every day that passes the limits.

    Each person is tested for contradicting trusted people, for disagreeing with the model, and for each pair of a label
    and a prediction; each day, all people together, for each pair. The significance is shared among all tests.
    Where trusted people have confirmed labels against the model, these are no reason.
    """
    pairs = classes * (classes - 1)
    people, days = len(np.unique(opinions.people)), len(np.unique(opinions.days))
    bound = np.log((people * (2 + pairs) + days * pairs) / limits.significance) if len(opinions.people) else 0
    found = [
        *_contradicting(opinions, limits, bound),
        *_disagreeing(opinions, limits, bound),
        *_pairs(opinions, "person", opinions.people, limits, bound),
        *_pairs(opinions, "day", opinions.days, limits, bound),
    ]
    return sorted(found, key=lambda suspect: -suspect.log10_evidence)


def _contradicting(opinions: Opinions, limits: Limits, bound: float) -> Iterator[Suspect]:
    rate = 1 - limits.golden_floor
    for person in np.unique(opinions.people[opinions.known >= 0]):
        own = opinions.people == person
        checked = own & (opinions.known >= 0)
        wrong = checked & (opinions.labels != opinions.known)
        evidence = log_evidence(wrong.sum(), checked.sum(), rate)
        if evidence >= bound:
            yield _suspect("person", person, "contradicts trusted people", wrong, checked, rate, evidence, own)


def _disagreeing(opinions: Opinions, limits: Limits, bound: float) -> Iterator[Suspect]:
    differs = opinions.differs
    for person in np.unique(opinions.people):
        own = opinions.people == person
        wrong = own & differs
        rate = _allowed(differs & ~own, ~own, limits)
        evidence = log_evidence(wrong.sum(), own.sum(), rate)
        if evidence >= bound and not _cleared(opinions, wrong, limits):
            yield _suspect("person", person, "disagrees with the model", wrong, own, rate, evidence, own)


def _pairs(opinions: Opinions, kind: str, units: NDArray[Any], limits: Limits, bound: float) -> Iterator[Suspect]:
    """The units whose pictures of one label the model read as another one. Of a day only these labels are held back.

    Among equal labels, since units may have other shares of the classes: whoever sends fours alone has the model's
    errors on fours, as the others have.
    """
    differs = opinions.differs
    of_pair = np.stack([opinions.predicted[differs], opinions.labels[differs]]).astype(np.int64)
    for predicted, label in np.unique(of_pair, axis=1).T.tolist():
        labelled = opinions.labels == label
        changed = labelled & (opinions.predicted == predicted)
        for unit in np.unique(units[changed]):
            own = units == unit
            if kind == "day" and not (labelled & ~own).any():
                continue  # no other day to compare with
            rate = _allowed(changed & ~own, labelled & ~own, limits)
            wrong = changed & own
            evidence = log_evidence(wrong.sum(), (labelled & own).sum(), rate)
            if evidence >= bound and not _cleared(opinions, wrong, limits):
                why = f"labels pictures {label} that the model reads as {predicted}"
                held = own if kind == "person" else wrong
                yield _suspect(kind, unit, why, wrong, labelled & own, rate, evidence, held)


def _allowed(wrong: NDArray[np.bool_], others: NDArray[np.bool_], limits: Limits) -> float:
    """The rate of the others (Laplace 1814: half, where there are none) and the tolerance."""
    return float(min(HIGHEST, (wrong.sum() + 1) / (others.sum() + 2) + limits.tolerance))


def _cleared(opinions: Opinions, wrong: NDArray[np.bool_], limits: Limits) -> bool:
    """Whether trusted people agree with these labels."""
    known = opinions.known[wrong]
    agreed = opinions.labels[wrong][known >= 0] == known[known >= 0]
    return bool(len(agreed) >= limits.checked and agreed.mean() >= limits.golden_floor)


def _suspect(
    kind: str, who: Any, why: str, wrong: NDArray[np.bool_], asked: NDArray[np.bool_], rate: float, evidence: float,
    held: NDArray[np.bool_],
) -> Suspect:  # fmt: skip
    name = who.decode() if kind == "person" else str(np.datetime64(int(who), "D"))
    return Suspect(kind, name, why, int(wrong.sum()), int(asked.sum()), round(rate, 4),
                   round(float(evidence / np.log(10)), 2), np.flatnonzero(held))  # fmt: skip
