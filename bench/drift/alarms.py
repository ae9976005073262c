"""The alarms of watching, as `pipelines.watch` raises them, and the usual test of windows beside them."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bench.drift.traffic import CONFIDENCE, Measured
from model.drift import HARM, Evidence, Reference
from model.risk import ConfidenceSequence
from model.statistics import NAMES

ALPHA: Final = 0.05  # the probability of a false alarm, over all time
EPSILON: Final = 0.01  # of error rate: one more error in 100 answers wakes nobody
OF_EVIDENCE: Final = ("change", "tail")  # `tail`: the evidence of the statistics of `HARM` alone
OF_ERRORS: Final = ("risk", "harm")  # estimated without labels; from labels
KINDS: Final = (*OF_EVIDENCE, *OF_ERRORS)
_MOST: Final = 700.0  # the greatest logarithm that `exp` takes


@dataclass
class Watch:
    """What is watched of one stream."""

    reference: Reference
    usual: Reference | None = None  # what the evidence compares with, if it is not `reference`
    alpha: float = ALPHA
    epsilon: float = EPSILON
    evidence: Evidence = field(init=False)
    confident: ConfidenceSequence = field(default_factory=ConfidenceSequence)
    wrong: ConfidenceSequence = field(default_factory=ConfidenceSequence)

    def __post_init__(self) -> None:
        self.evidence = Evidence(self.usual or self.reference)
        base = self.reference.baseline
        # as in `pipelines.watching`: an alarm about errors compares up to three intervals, each at a third of alpha
        self._limit = base.worst_error(self.alpha / 3) + self.epsilon

    def add(self, seen: Measured, ties: NDArray[np.float64], labelled: NDArray[np.bool_], epoch: int) -> None:
        """Adds predictions, of which people have `labelled` some."""
        self.evidence.add(seen.values, ties, epoch)
        self.confident.add(self.reference.baseline.confident(seen.values[:, CONFIDENCE]), epoch)
        self.wrong.add(~seen.right[labelled], epoch)

    def alarms(self) -> dict[str, bool]:
        """Whether each of `KINDS` is alarmed now."""
        return self.of_evidence() | self.of_errors()

    def of_evidence(self) -> dict[str, bool]:
        """Whether the average of the e-processes of all statistics, and of those of `HARM`, has reached 1 / alpha."""
        logs = self.evidence.log_evidence()
        averages = {"change": NAMES, "tail": HARM}
        return {
            kind: bool(np.mean(np.exp([min(logs[name], _MOST) for name in names])) >= 1 / self.alpha)
            for kind, names in averages.items()
        }

    def of_errors(self) -> dict[str, bool]:
        """Whether the lower end of the error, estimated or labelled, is above the reference's error and epsilon."""
        part = self.alpha / 3
        base = self.reference.baseline
        confident = self.confident.fall(part)[0], self.confident.interval(part)
        estimated = [1 - base.accuracy(one, part).high for one in confident]
        labelled = [one.low for one in (self.wrong.rise(part)[0], self.wrong.interval(part))]
        return {"risk": max(estimated) > self._limit, "harm": max(labelled) > self._limit}


def delays(watch: Watch, stream: Measured, step: int, audit: float, rng: Generator) -> dict[str, int | None]:
    """The number of predictions after which each kind of alarm is raised first. One looks after every `step`.

    Each step is an epoch. `audit` is the share of the predictions that people label, drawn at random.
    """
    first: dict[str, int | None] = dict.fromkeys(KINDS)
    labelled = rng.random(len(stream)) < audit
    for epoch, at in enumerate(range(0, len(stream), step)):
        some = slice(at, at + step)
        part = stream[some]
        watch.add(part, rng.random(part.values.shape), labelled[some], epoch)
        for kind, alarmed in watch.alarms().items():
            if alarmed and first[kind] is None:
                first[kind] = at + len(part)
        if all(found is not None for found in first.values()):
            break
    return first
