"""People and days whose labels look wrong: how often they differ from the model, beside how often the others' do.

All callers disagree with a model that has become bad. So nobody is suspicious for disagreeing, only for disagreeing far
more often than the others.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincc, betaln

DAY: Final = 86_400  # seconds
HIGHEST: Final = 0.999  # rate that the others may have: at 1, nothing could be more

Rates: TypeAlias = Callable[[NDArray[np.integer], NDArray[np.integer]], NDArray[np.floating]]  # of wrong and all


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

    def allowed(self, wrong: NDArray[np.integer], count: NDArray[np.integer]) -> NDArray[np.floating]:
        """The rate of the others (Laplace 1814: half, where there are none) and the tolerance."""
        return np.minimum(HIGHEST, (wrong + 1) / (count + 2) + self.tolerance)


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
    checked = opinions.known >= 0
    wrong = checked & (opinions.labels != opinions.known)
    for found in _outliers(opinions.people, wrong, checked, bound, lambda *_: np.array(1 - limits.golden_floor)):
        yield found.suspect("person", "contradicts trusted people", found.own)


def _disagreeing(opinions: Opinions, limits: Limits, bound: float) -> Iterator[Suspect]:
    everything = np.ones(len(opinions.people), np.bool_)
    for found in _outliers(opinions.people, opinions.differs, everything, bound, limits.allowed):
        if not _cleared(opinions, found.wrong, limits):
            yield found.suspect("person", "disagrees with the model", found.own)


def _pairs(opinions: Opinions, kind: str, units: NDArray[Any], limits: Limits, bound: float) -> Iterator[Suspect]:
    """The units whose pictures of one label the model read as another one. Of a day only these labels are held back.

    Among equal labels, since units may have other shares of the classes: whoever sends fours alone has the model's
    errors on fours, as the others have.
    """
    differs = opinions.differs
    of_pair = np.stack([opinions.predicted[differs], opinions.labels[differs]]).astype(np.int64)
    for predicted, label in np.unique(of_pair, axis=1).T.tolist():
        labelled = opinions.labels == label
        for found in _outliers(units, labelled & (opinions.predicted == predicted), labelled, bound, limits.allowed):
            alone = kind == "day" and found.asked.sum() == labelled.sum()  # no other day to compare with
            if not alone and not _cleared(opinions, found.wrong, limits):
                held = found.own if kind == "person" else found.wrong
                yield found.suspect(kind, f"labels pictures {label} that the model reads as {predicted}", held)


@dataclass(frozen=True)
class _Outlier:
    """A person or a day whose rate passes the bound. Masks over all opinions."""

    name: Any
    own: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    asked: NDArray[np.bool_]
    rate: float
    evidence: float

    def suspect(self, kind: str, why: str, held: NDArray[np.bool_]) -> Suspect:
        who = self.name.decode() if kind == "person" else str(np.datetime64(int(self.name), "D"))
        return Suspect(kind, who, why, int(self.wrong.sum()), int(self.asked.sum()), round(self.rate, 4),
                       round(self.evidence / math.log(10), 2), np.flatnonzero(held))  # fmt: skip


def _outliers(
    units: NDArray[Any], wrong: NDArray[np.bool_], asked: NDArray[np.bool_], bound: float, allowed: Rates
) -> Iterator[_Outlier]:
    """The units of whose opinions `asked` too many are `wrong`. Everything is counted at once: units may be many."""
    names, of = np.unique(units, return_inverse=True)
    some = np.unique(of[wrong])  # nothing speaks against the others
    counts, errors = (np.bincount(of[which], minlength=len(names))[some] for which in (asked, wrong))
    rates = np.broadcast_to(allowed(wrong.sum() - errors, asked.sum() - counts), counts.shape)
    evidence = log_evidence(errors, counts, rates)
    for at in np.flatnonzero(evidence >= bound).tolist():
        own = of == some[at]
        yield _Outlier(names[some[at]], own, own & wrong, own & asked, float(rates[at]), float(evidence[at]))


def _cleared(opinions: Opinions, wrong: NDArray[np.bool_], limits: Limits) -> bool:
    """Whether trusted people agree with these labels."""
    known = opinions.known[wrong]
    agreed = opinions.labels[wrong][known >= 0] == known[known >= 0]
    return bool(len(agreed) >= limits.checked and agreed.mean() >= limits.golden_floor)
