"""Which of the labels that people sent are taken. Everything here is a function of the table and the parameters."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from journal.ids import golden_id
from model.confident import confident_classes
from pipelines import stage
from pipelines.artefacts import Split
from pipelines.labelled import Feedback, Judged, Verdict
from pipelines.suspicion import DAY, Limits, Opinions, Suspect, suspects


class FeedbackParams(stage.Params, section="feedback"):
    """When a label is taken."""

    judge: float = Field(gt=0, lt=0.5, description="share of the callers whose pictures no model is trained on")
    golden_labels: int = Field(ge=1, description="of golden pictures, which a labeller needs to be trusted")
    golden_floor: float = Field(gt=0.5, lt=1, description="share of these that must be right")
    one_is_enough: bool = Field(description="take a label that one untrusted person gave and nobody contradicts")
    hold_contradicted: bool = Field(description="hold back untrusted labels where the model is sure of another class")
    caller_share: float = Field(gt=0, le=1, description="of the taken labels, for the untrusted ones of a caller")
    significance: float = Field(gt=0, lt=0.5, description="the chance that an innocent person or day is held back")
    tolerance: float = Field(gt=0, lt=0.5, description="by which a person may disagree more often than the others")


@dataclass
class People:
    """What the golden pictures say about those who labelled them: (right, all) of each."""

    golden: dict[bytes, tuple[int, int]]
    params: FeedbackParams

    def trusted(self, person: bytes) -> bool:
        right, count = self.golden.get(person, (0, 0))
        return count >= self.params.golden_labels and right >= self.params.golden_floor * count

    def failed(self, person: bytes) -> bool:
        right, count = self.golden.get(person, (0, 0))
        return count >= self.params.golden_labels and right < self.params.golden_floor * count


@dataclass
class Ledger:
    """Verdicts and reasons of `count` rows, all pending at first. The first verdict about a row stays."""

    count: int
    reasons: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.verdict = np.full(self.count, Verdict.PENDING, np.uint8)
        self.reason = np.zeros(self.count, np.uint16)
        self.open = np.ones(self.count, np.bool_)

    def put(self, which: Any, verdict: Verdict, reason: str) -> None:
        """`which` is a mask or places."""
        chosen = np.zeros(self.count, np.bool_)
        chosen[which] = True
        chosen &= self.open
        if chosen.any():
            self.verdict[chosen] = verdict
            self.reason[chosen] = self.reasons.setdefault(reason, len(self.reasons))
            self.open[chosen] = False

    def reopen(self, rows: NDArray[np.intp]) -> None:
        """Lets another verdict replace the one of these rows."""
        self.open[rows] = True


@dataclass(frozen=True)
class Outcome:
    """The verdicts, and what the report says beside them."""

    judged: Judged
    suspects: list[Suspect]
    people: People


def judge(feedback: Feedback, params: FeedbackParams) -> Outcome:
    """Decides about every row. Neither the order of the runs nor their number matters."""
    rows, people = feedback.rows, People(golden_answers(feedback), params)
    pictures, ledger = same_pictures(feedback.pixels), Ledger(len(rows))
    ledger.put(~newest(rows, pictures), Verdict.MERGED, "the person labelled the picture again")
    is_labeller = rows["role"] == b"labeller"
    ledger.put(_are(people.failed, rows["by"]), Verdict.HELD_BACK, "the person reads golden pictures wrongly")
    trusted = ledger.open & is_labeller & _are(people.trusted, rows["by"])
    found = _hold_back_suspects(feedback, pictures, trusted, ledger, params)
    _settle(rows, pictures, trusted, ledger, params)
    flagged = contradicted(feedback, np.flatnonzero(ledger.verdict == Verdict.TAKEN))
    if params.hold_contradicted:
        doubtful = np.flatnonzero(flagged)
        doubtful = doubtful[~_by_trusted(ledger, doubtful)]
        ledger.reopen(doubtful)
        ledger.put(doubtful, Verdict.HELD_BACK, "confident learning: the model is sure of another class")
    _cap(rows, ledger, params.caller_share)
    judged = Judged(ledger.verdict, ledger.reason, tuple(ledger.reasons), splits(rows, pictures, params.judge), flagged)
    return Outcome(judged, found, people)


def golden_answers(feedback: Feedback) -> dict[bytes, tuple[int, int]]:
    """How many golden pictures each person labelled: (right, all).

    golden.npz has one picture of each of the first labels, in their order: a picture's place is its answer.
    """
    places = range(len(feedback.classes))
    answers = {golden_id(version, place).encode(): place for version in feedback.versions for place in places}
    counts: dict[bytes, tuple[int, int]] = {}
    for row in feedback.golden:
        if row["by"] and row["prediction_id"] in answers:
            right, count = counts.get(row["by"], (0, 0))
            counts[row["by"]] = right + int(row["label"] == answers[row["prediction_id"]]), count + 1
    return counts


def same_pictures(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """A number for each of n x 28 x 28 images; images with the same pixels have the same."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(image.tobytes(), len(numbers)) for image in pixels], np.int64)


def newest(rows: NDArray[Any], pictures: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a row is the last one of its person about its picture. Of unknown people, every row is."""
    last = {(picture, by): at for at, (picture, by) in enumerate(zip(pictures.tolist(), rows["by"], strict=True))}
    mask: NDArray[np.bool_] = rows["by"] == b""
    mask[list(last.values())] = True
    return mask


def sources(rows: NDArray[Any]) -> NDArray[np.bytes_]:
    """Whose picture each row is about: the caller, or whoever labelled it, or the prediction where both are unknown."""
    known = np.where(rows["caller"] != b"", rows["caller"], rows["by"])
    return np.where(known != b"", known, rows["prediction_id"])


def splits(rows: NDArray[Any], pictures: NDArray[np.int64], share: float) -> NDArray[np.uint8]:
    """TEST for every picture that a caller of the held-out share sent, otherwise TRAIN. A hash decides."""
    sent_by = sources(rows)
    held_out = {source for source in set(sent_by.tolist()) if _hash_share(b"judge " + source) < share}
    of_them = np.isin(pictures, pictures[np.array([source in held_out for source in sent_by.tolist()], np.bool_)])
    return np.where(of_them, Split.TEST, Split.TRAIN).astype(np.uint8)


def _hash_share(name: bytes) -> float:
    return int.from_bytes(hashlib.sha256(name).digest()[:8]) / 2**64


def _are(test: Any, people: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    chosen = {person for person in set(people.tolist()) if test(person)}
    return np.array([person in chosen for person in people.tolist()], np.bool_)


def _hold_back_suspects(
    feedback: Feedback, pictures: NDArray[np.int64], trusted: NDArray[np.bool_], ledger: Ledger, params: FeedbackParams
) -> list[Suspect]:
    rows = feedback.rows
    known = {picture: label for picture, (label, _) in _agreed(rows, pictures, np.flatnonzero(trusted)).items()}
    judged = np.flatnonzero(ledger.open & ~trusted & (rows["by"] != b""))
    opinions = Opinions(
        people=rows["by"][judged],
        days=(rows["time"][judged] // DAY).astype(np.int64),
        predicted=rows["predicted"][judged],
        labels=rows["label"][judged],
        known=np.array([known.get(picture, -1) for picture in pictures[judged].tolist()], np.int64),
    )
    limits = Limits(params.significance, params.tolerance, params.golden_floor, params.golden_labels)
    found = suspects(opinions, len(feedback.classes), limits)
    for suspect in found:
        ledger.put(judged[suspect.held], Verdict.HELD_BACK, f"suspicious {suspect.kind}: {suspect.why}")
    return found


def _agreed(rows: NDArray[Any], pictures: NDArray[np.int64], among: NDArray[np.intp]) -> dict[int, tuple[int, int]]:
    """(label, people) of each picture on whose label more people agree than on any other. Each row is one person's."""
    votes: dict[int, Counter[int]] = defaultdict(Counter)
    for row in among.tolist():
        votes[int(pictures[row])][int(rows["label"][row])] += 1
    settled = {}
    for picture, counts in votes.items():
        (label, most), *others = counts.most_common(2)
        if not others or others[0][1] < most:
            settled[picture] = label, most
    return settled


def _settle(
    rows: NDArray[Any], pictures: NDArray[np.int64], trusted: NDArray[np.bool_], ledger: Ledger, params: FeedbackParams
) -> None:
    """Takes the oldest row with the label that a trusted person gave, or two people, or one where that is enough."""
    known = ledger.open & (rows["by"] != b"")
    by_trusted = _agreed(rows, pictures, np.flatnonzero(ledger.open & trusted))
    by_people = _agreed(rows, pictures, np.flatnonzero(known))
    by_anyone = _agreed(rows, pictures, np.flatnonzero(ledger.open))
    asked_trusted = set(pictures[ledger.open & trusted].tolist())
    members = _members(pictures, np.flatnonzero(ledger.open))
    too_new = rows["role"] == b"labeller"
    for picture, own in members.items():
        label, people = by_people.get(picture, (-1, 0))
        if picture in asked_trusted:
            if picture in by_trusted:
                _take(rows, own, by_trusted[picture][0], "a trusted person", ledger)
            else:
                ledger.put(own, Verdict.PENDING, "trusted people contradict each other")
        elif people >= 2:
            _take(rows, own, label, "two people agree", ledger)
        elif params.one_is_enough and picture in by_anyone and len(set(rows["label"][own].tolist())) == 1:
            _take(rows, own, by_anyone[picture][0], "one person, whom nobody contradicts", ledger)
        elif len(own) > 1:
            ledger.put(own, Verdict.PENDING, "no two known people agree")
        else:
            new = "the labeller has labelled too few golden pictures"
            ledger.put(own, Verdict.PENDING, new if too_new[own[0]] else "one person alone")


def _members(pictures: NDArray[np.int64], among: NDArray[np.intp]) -> Mapping[int, list[int]]:
    members: dict[int, list[int]] = defaultdict(list)
    for row in among.tolist():
        members[int(pictures[row])].append(row)
    return members


def _take(rows: NDArray[Any], own: Iterable[int], label: int, reason: str, ledger: Ledger) -> None:
    agreeing = [row for row in own if rows["label"][row] == label]
    ledger.put(agreeing[:1], Verdict.TAKEN, reason)
    ledger.put(agreeing[1:], Verdict.MERGED, "another row of the picture is taken")
    ledger.put([row for row in own if rows["label"][row] != label], Verdict.MERGED, "outvoted")


def contradicted(feedback: Feedback, taken: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which of the rows `taken` look wrong: confident learning and the model's answer agree on another class.

    Of a class whose few pictures were all misread, most others reach the threshold; so the answer must be it, too.
    """
    labels = feedback.rows["label"][taken].astype(np.int64)
    confident = confident_classes(labels, feedback.probabilities[taken])
    flagged = np.zeros(len(feedback.rows), np.bool_)
    flagged[taken[(confident != labels) & (confident == feedback.rows["predicted"][taken])]] = True
    return flagged


def _by_trusted(ledger: Ledger, taken: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which of the taken rows have the label of a trusted person. The row itself may be another person's."""
    return np.equal(ledger.reason[taken], ledger.reasons.get("a trusted person", -1))


def _cap(rows: NDArray[Any], ledger: Ledger, share: float) -> None:
    """Holds back a caller's newest untrusted labels above `share` of all taken ones.

    A trusted label is right, whoever sent the picture: these are not capped.
    """
    taken = np.flatnonzero(ledger.verdict == Verdict.TAKEN)
    untrusted = taken[~_by_trusted(ledger, taken)]
    callers, of_caller = np.unique(sources(rows)[untrusted], return_inverse=True)
    counts = np.bincount(of_caller, minlength=len(callers))
    most = allowed(counts, len(taken) - len(untrusted), share)
    over = [row for caller in range(len(callers)) for row in untrusted[of_caller == caller][most:].tolist()]
    ledger.reopen(np.array(over, np.intp))
    ledger.put(over, Verdict.HELD_BACK, "over the caller's share")


def allowed(counts: NDArray[np.int64], others: int, share: float) -> int:
    """The most labels of one caller: the greatest number that is at most `share` of all labels that are then left.

    `counts` are the labels of each caller; `others` more are kept in any case.
    """
    low, high = 0, int(counts.max(initial=0))
    while low < high:
        most = (low + high + 1) // 2
        if most <= share * (others + np.minimum(counts, most).sum()):
            low = most
        else:
            high = most - 1
    return low
