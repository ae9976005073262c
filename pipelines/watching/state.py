"""What the watch has counted of one model. It is a function of the two streams alone, predictions and labels, each in
the order of its ids: however they are cut into chunks, the state is equal to the bit.
"""

import base64
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from scipy.special import logsumexp
from zstandard import ZstdError

from journal.ids import moment
from journal.queries import Answered, Heard
from journal.tables import unpack
from model import statistics
from model.canonical import Pixels
from model.drift import Evidence, Reference
from model.epochs import StateError
from model.risk import ConfidenceSequence, Interval
from model.statistics import NAMES
from pipelines.watching.curve import Beginnings, Curve
from pipelines.watching.params import WatchParams
from pipelines.watching.sessions import Sessions

Kind = Literal["harm", "risk", "change"]
Features = Callable[[Pixels], NDArray[np.float32]]

_CONFIDENCE: Final = NAMES.index("confidence")


@dataclass(frozen=True)
class Alarm:
    """What was noticed. An alarm stays until a person acknowledges it, or another model is watched."""

    kind: Kind
    statistic: str
    since: float  # when it seems to have begun: seconds since 1970
    time: float  # of the prediction or label that proved it
    detail: dict[str, Any]


@dataclass
class Counts:
    """How many rows there were, and what became of them."""

    predictions: int = 0  # of this model
    counted: int = 0  # of these, after thinning by session
    abstained: int = 0  # of these predictions
    other_models: int = 0  # predictions of others, skipped
    damaged: int = 0  # predictions that cannot be read
    labels: int = 0  # audits: drawn at random, first for their prediction
    volunteered: int = 0  # other labels for a prediction, first for it
    repeated: int = 0  # labels for a prediction that had one of the same kind
    unknown: int = 0  # labels whose prediction the journal lacks
    golden: int = 0  # labels of golden pictures, which are about the labeller


class _Stored(BaseModel):
    """The state as JSON. Bytes are in base64."""

    model_config = ConfigDict(extra="forbid")

    reference: str
    production: str | None
    learned: str
    evidence: str | None
    confident: str
    audited: str
    others: str
    counts: dict[str, int]
    sessions: list[tuple[str, float, int]]
    beginnings: list[list[tuple[int, float]]]
    curves: list[tuple[int, int, list[list[float]]]]
    alarms: list[dict[str, Any]]


@dataclass
class State:
    """Counters against a bundle's `reference`."""

    reference: Reference
    params: WatchParams
    learned: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, len(NAMES))))
    production: Reference | None = None  # made of `learned`, once there are `params.baseline` of them
    evidence: Evidence | None = None  # of change; None while the baseline is learned
    confident: ConfidenceSequence = field(default_factory=ConfidenceSequence)
    audited: ConfidenceSequence = field(default_factory=ConfidenceSequence)  # errors among labels drawn at random
    others: ConfidenceSequence = field(default_factory=ConfidenceSequence)  # errors among the other labels
    counts: Counts = field(default_factory=Counts)
    sessions: Sessions = field(default_factory=lambda: Sessions(1))
    predicted: Beginnings = field(default_factory=Beginnings)
    labelled: Beginnings = field(default_factory=Beginnings)
    # Time, count, estimated accuracy (mean, low, high), log10 of each statistic's evidence (0 while it is learned).
    curve: Curve[list[float]] = field(default_factory=Curve)
    errors: Curve[list[float]] = field(default_factory=Curve)  # time, count, error rate (mean, low, high)
    alarms: list[Alarm] = field(default_factory=list)

    @classmethod
    def new(cls, reference: Reference, params: WatchParams) -> "State":
        made = cls(reference, params, sessions=Sessions(params.per_session))
        if not params.baseline:
            made.evidence = Evidence(reference)
        return made

    # ---- predictions

    def predictions(self, rows: Sequence[Answered], version: str, labels: int, features: Features) -> None:
        """Counts rows of the journal; `features` are the bundle's, which has `labels` classes."""
        taken, images, probabilities = [], [], []
        for row in rows:
            if row.model_version != version:
                self.counts.other_models += 1
                continue
            self.counts.predictions += 1
            self.counts.abstained += row.abstained
            read = _read(row, labels)
            if read is None:
                self.counts.damaged += 1
            elif self.sessions.counts(row.caller, moment(row.id)):
                taken.append(row.id)
                images.append(read[0])
                probabilities.append(read[1])
        if taken:
            pixels = np.stack(images)
            values = statistics.measure(np.stack(probabilities), pixels, features(pixels))
            self._count(values, taken)

    def _count(self, values: NDArray[np.float64], ids: Sequence[str]) -> None:
        """Counts n predictions in blocks that end where an epoch or the learning ends, and looks after each epoch."""
        ties, size = statistics.ties(ids), self.params.epoch
        at = 0
        while at < len(ids):
            before = self.counts.counted
            end = at + size - before % size
            if self.evidence is None:
                end = min(end, at + max(1, self.params.baseline - len(self.learned)))
            block, order = values[at:end], ties[at:end]
            self.predicted.note(before // size, moment(ids[at]))
            self.counts.counted += len(block)
            self.confident.add(self.reference.baseline.confident(block[:, _CONFIDENCE]), before // size)
            if self.evidence is None:
                self._learn(block)
            else:
                self.evidence.add(block, order, before // size)
            if self.counts.counted % size == 0:
                self._look(moment(ids[at + len(block) - 1]))
            at += len(block)

    def _learn(self, block: NDArray[np.float64]) -> None:
        self.learned = np.concatenate([self.learned, block])
        if len(self.learned) >= self.params.baseline:
            # Whether they were right is not known, and not used: risk and harm are judged by the bundle's reference.
            self.production = Reference.of(self.learned, np.ones(len(self.learned), bool))
            self.evidence = Evidence(self.production)
            self.learned = self.learned[:0]

    def _look(self, time: float) -> None:
        """Raises the alarms of an epoch that is over."""
        if self.evidence is None:
            logs = dict.fromkeys(NAMES, 0.0)
        else:
            logs = self.evidence.log_evidence()
            average = float(logsumexp(list(logs.values())) - np.log(len(logs)))
            if not self.has("change") and average >= -np.log(self.params.alpha):
                self._changed(self.evidence, logs, time)
        if not self.has("risk"):
            self._risk(time)
        if self.curve.due:
            estimated = self.estimated()
            tens = [value / np.log(10) for value in logs.values()]
            self.curve.add([time, self.counts.counted, estimated.mean, estimated.low, estimated.high, *tens])
        else:
            self.curve.skip()

    def _changed(self, evidence: Evidence, logs: dict[str, float], time: float) -> None:
        most = max(logs, key=lambda name: logs[name])
        epoch = evidence.since(most)
        detail = {"evidence": {name: value / np.log(10) for name, value in logs.items()}}
        since = time if epoch is None else self.predicted.of(epoch)
        self.alarms.append(Alarm("change", most, since, time, detail))

    def _risk(self, time: float) -> None:
        half = self.params.alpha / 2
        confident, epoch = self.confident.fall(half)
        estimated = self.reference.baseline.accuracy(confident, half)
        if epoch is not None and 1 - estimated.high > self.tolerated:
            detail = {"estimated_accuracy": asdict(estimated), "tolerated_error": self.tolerated}
            self.alarms.append(Alarm("risk", "estimated accuracy", self.predicted.of(epoch), time, detail))

    # ---- labels

    def labels(self, rows: Sequence[Heard], version: str) -> None:
        """Counts labels of the journal."""
        for row in rows:
            if row.asked == "golden":
                self.counts.golden += row.model_version is None
            elif row.model_version is None:
                self.counts.unknown += 1
            elif row.model_version != version:
                continue
            elif not row.first:
                self.counts.repeated += 1
            else:
                self._label(row)

    def _label(self, row: Heard) -> None:
        time, wrong = moment(row.id), row.digit != row.label
        epoch = (self.counts.labels + self.counts.volunteered) // self.params.label_epoch
        self.labelled.note(epoch, time)
        (self.audited if row.audit else self.others).add(np.array([wrong]), epoch)
        if row.audit:
            self.counts.labels += 1
        else:
            self.counts.volunteered += 1
        if not row.audit and self.params.labels == "audit":
            return
        if wrong and not self.has("harm"):  # a right answer proves no harm
            error, since = self._counted.rise(self.params.alpha / 2)
            if since is not None and error.low > self.tolerated:
                detail = {"error": asdict(error), "tolerated_error": self.tolerated}
                self.alarms.append(Alarm("harm", "error rate", self.labelled.of(since), time, detail))
        if self.errors.due:
            error = self.error()
            self.errors.add([time, error.count, error.mean, error.low, error.high])
        else:
            self.errors.skip()

    # ---- what is known

    @property
    def tolerated(self) -> float:
        """The error rate that is no harm: what the reference does not exclude, and epsilon."""
        return self.reference.baseline.worst_error(self.params.alpha / 2) + self.params.epsilon

    def has(self, kind: Kind) -> bool:
        return any(alarm.kind == kind for alarm in self.alarms)

    def error(self) -> Interval:
        """The error rate from labels: of all, or since the restart that shows more harm."""
        half = self.params.alpha / 2
        return max(self._counted.interval(half), self._counted.rise(half)[0], key=lambda found: found.low)

    def estimated(self) -> Interval:
        """The accuracy by average thresholded confidence: of all, or since the restart that shows more risk."""
        half = self.params.alpha / 2
        confident = min(self.confident.interval(half), self.confident.fall(half)[0], key=lambda found: found.high)
        return self.reference.baseline.accuracy(confident, half)

    @property
    def _counted(self) -> ConfidenceSequence:
        return self.audited if self.params.labels == "audit" else self.audited + self.others

    def logs(self) -> dict[str, float]:
        """The natural logarithm of each statistic's evidence of change."""
        return dict.fromkeys(NAMES, 0.0) if self.evidence is None else self.evidence.log_evidence()

    # ---- bytes

    def dumps(self) -> bytes:
        """What `loads` reads. Equal states give equal bytes."""
        stored = _Stored(
            reference=self.reference.digest.hex(),
            production=None if self.production is None else _text(self.production.dumps()),
            learned=_text(self.learned.tobytes()),
            evidence=None if self.evidence is None else _text(self.evidence.dumps()),
            confident=_text(self.confident.dumps()),
            audited=_text(self.audited.dumps()),
            others=_text(self.others.dumps()),
            counts=asdict(self.counts),
            sessions=[(caller, *known) for caller, known in self.sessions.items()],
            beginnings=[list(self.predicted.times.items()), list(self.labelled.times.items())],
            curves=[(one.offered, one.stride, one.points) for one in (self.curve, self.errors)],
            alarms=[asdict(alarm) for alarm in self.alarms],
        )
        return zlib.compress(json.dumps(stored.model_dump()).encode())

    @classmethod
    def loads(cls, data: bytes, reference: Reference, params: WatchParams) -> "State":
        """The state that `dumps` wrote. Raises `model.epochs.StateError`."""
        try:
            stored = _Stored.model_validate_json(zlib.decompress(data))
            if stored.reference != reference.digest.hex():
                raise StateError("it was counted against another reference")
            made = cls._of(stored, reference, params)
        except ValidationError as error:
            wrong = error.errors()[0]
            raise StateError(f"{'.'.join(map(str, wrong['loc'])) or 'it'}: {wrong['msg']}") from None
        except (ValueError, TypeError, zlib.error) as error:
            raise StateError(str(error)) from None
        return made

    @classmethod
    def _of(cls, stored: _Stored, reference: Reference, params: WatchParams) -> "State":
        production = None if stored.production is None else Reference.parse(_bytes(stored.production))
        evidence = None
        if stored.evidence is not None:
            evidence = Evidence.loads(_bytes(stored.evidence), production or reference)
        predicted, labelled = (dict(one) for one in stored.beginnings)
        curve, errors = (Curve(*one) for one in stored.curves)
        return cls(
            reference,
            params,
            learned=np.frombuffer(_bytes(stored.learned)).reshape(-1, len(NAMES)),
            production=production,
            evidence=evidence,
            confident=ConfidenceSequence.loads(_bytes(stored.confident)),
            audited=ConfidenceSequence.loads(_bytes(stored.audited)),
            others=ConfidenceSequence.loads(_bytes(stored.others)),
            counts=Counts(**stored.counts),
            sessions=Sessions(params.per_session, {caller: (time, n) for caller, time, n in stored.sessions}),
            predicted=Beginnings(predicted),
            labelled=Beginnings(labelled),
            curve=curve,
            errors=errors,
            alarms=[Alarm(**alarm) for alarm in stored.alarms],
        )


def _read(row: Answered, labels: int) -> tuple[Pixels, NDArray[np.float32]] | None:
    """The image and the probabilities of a row; None where they cannot be read."""
    if row.image is None or row.probabilities is None or len(row.probabilities) != 4 * labels:
        return None
    probabilities = np.frombuffer(row.probabilities, "<f4")
    try:
        pixels = unpack(row.image)
    except (ZstdError, ValueError):
        return None
    return (pixels, probabilities) if np.isfinite(probabilities).all() else None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
