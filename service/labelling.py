"""The queue of /label: whom it asks, about what, and why. The server decides all of that; the client decides nothing.

Of ten pictures one is an audit. It is drawn at random from the tenth of all predictions that a hash of the id sets
aside. The rest of the queue never asks about this tenth. So the audits are a fair sample, and their error rate is an
unbiased estimate of the model's. If they were drawn from what the rest of the queue leaves, they would find too few
errors, because the doubtful pictures are labelled first. An audit never shows the prediction: people tend to confirm
what they are shown (anchoring), most of all in doubtful cases.

Of twenty pictures one is golden: its label is known. Half of these hide the prediction. The other half show a wrong
one, which finds people who only confirm.
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from journal.ids import golden_id
from model.bundle import Golden
from model.canonical import Pixels
from model.predictor import Predictor
from model.selection import choose
from service.callers import Callers
from service.edge.keys import Keys
from service.edge.problems import Problem
from service.labels import Labels
from service.pictures import data_url
from service.settings import Settings

if TYPE_CHECKING:
    from journal.labelling import Pool, Said, Stats  # with SQLAlchemy, which the service imports once it is ready

BLOCK: Final = 10  # pictures, of which one is an audit
GOLDEN: Final = 20  # pictures, of which one is golden
BLIND: Final = 3  # each third of the other pictures hides the prediction
SHOWN: Final = 3600.0  # seconds within which a picture must be answered
REMEMBERED: Final = 10_000  # pictures that people skipped; skipped earlier, they come again


class Asked(NamedTuple):
    """A picture that is shown to a person."""

    prediction_id: str
    asked: str  # of `journal.rows.ASKED`
    blind: bool
    pixels: Pixels  # 28 x 28
    shown: NDArray[np.float32] | None = None  # the probabilities that are shown where it is not blind


class Ticket(NamedTuple):
    """What the server signed when it showed a picture."""

    prediction_id: str
    asked: str
    blind: bool
    time: float  # when it was shown: seconds since 1970


class Labelling:
    """Who may label, and what is remembered of them while the process runs."""

    def __init__(self, settings: Settings, callers: Callers) -> None:
        self.digests: Final = [digest for digest in settings.labeller_keys.split(",") if digest]
        self._keys = Keys(settings.labeller_keys)
        self._callers = callers
        self._secret = hmac.digest(settings.caller_secret.encode(), b"tickets of /label", "sha256")
        self._skipped: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._answered: dict[str, float] = {}  # when each person answered last; as many as there are keys

    def check_open(self) -> None:
        """Raises `Problem` where nobody may label."""
        if not self.digests:
            raise Problem("nobody-may-label", "NEOCOG_LABELLER_KEYS is empty: nobody may label here")

    def person(self, headers: dict[bytes, bytes]) -> tuple[str, int]:
        """The hash of who asks, and the place of the key. Raises `Problem` where it is nobody who may label."""
        self.check_open()
        digest = self._keys.caller(headers, "")
        return self._callers.hashed(digest), self.digests.index(digest)

    def queue(
        self, pool: "Pool", by: str, place: int, predictor: Predictor, count: int, *, audit: bool = False
    ) -> list[Asked]:
        """The next `count` pictures for the person `by`, or as many as there are.

        For an `audit` all of them are drawn at random, but for the golden ones: the error rate is known soonest then.
        """
        free = [row for row, identity in enumerate(pool.ids) if self._waits(pool.said.get(identity), by, identity)]
        drawn = sorted(
            (row for row in free if _set_aside(pool.ids[row])),
            key=lambda row: (not self._shares(pool.ids[row], place), _draw(pool.ids[row])),
        )
        audits = [Asked(pool.ids[row], "audit", blind=True, pixels=pool.pixels[row]) for row in drawn[:count]]
        chosen = (
            [] if audit else self._chosen(pool, [row for row in free if not _set_aside(pool.ids[row])], place, count)
        )
        questions: list[Asked] = []
        for turn in range(pool.given, pool.given + count):
            kind = _kind(by, turn)
            first, second = (audits, chosen) if kind == "audit" else (chosen, audits)
            if not (first or second):
                break
            if kind == "golden" and predictor.golden is not None and len(predictor.manifest.labels) > 1:
                questions.append(_golden(predictor.golden, predictor.manifest.version, by, turn))
                continue
            question = (first or second).pop(0)
            questions.append(question._replace(blind=question.blind or turn % BLIND == BLIND - 1))
        return questions

    def ticket(self, question: Asked, by: str) -> str:
        """Signs what is asked. A golden picture's says `uncertain`, so that nobody can tell it from others."""
        why = "uncertain" if question.asked == "golden" else question.asked
        data = orjson.dumps([question.prediction_id, why, question.blind, time.time(), by])
        return base64.urlsafe_b64encode(data + self._signature(data)).decode()

    def opened(self, ticket: str, by: str, predictor: Predictor) -> Ticket:
        """What `ticket` signed. Raises `Problem` where it was not signed here, for this person, in the last hour."""
        try:
            signed = base64.urlsafe_b64decode(ticket.encode())
        except (binascii.Error, ValueError):
            signed = b""
        data, signature = signed[:-16], signed[-16:]
        if not hmac.compare_digest(self._signature(data), signature):
            raise Problem("bad-parameter", "token: this service did not sign it")
        identity, asked, blind, shown, whose = orjson.loads(data)
        if whose != by:
            raise Problem("bad-parameter", "token: the picture was shown to somebody else")
        if time.time() - shown > SHOWN:
            raise Problem("bad-parameter", f"token: the picture was shown more than {SHOWN / 60:.0f} minutes ago")
        if identity in golden_ids(predictor):
            asked = "golden"
        return Ticket(identity, asked, blind, shown)

    def skip(self, by: str, identity: str) -> None:
        """Remembers that the person `by` need not see this picture again."""
        self._skipped[by, identity] = None
        if len(self._skipped) > REMEMBERED:
            self._skipped.popitem(last=False)

    def seconds(self, by: str, shown: float) -> float:
        """The time that the person took: since the picture came, or since the last answer where that was later."""
        now = time.time()
        begun = max(shown, self._answered.get(by, 0.0))
        self._answered[by] = now
        return round(max(0.0, now - begun), 3)

    def _signature(self, data: bytes) -> bytes:
        return hmac.digest(self._secret, data, "sha256")[:16]

    def _waits(self, said: "dict[str, Said] | None", by: str, identity: str) -> bool:
        """Whether the person may be asked: nobody has said anything yet, or others contradict one another."""
        if (by, identity) in self._skipped:
            return False
        return said is None or (by not in said and _contradictory(said))

    def _shares(self, identity: str, place: int) -> bool:
        """Whether the prediction is in the share of the person whose key has this place."""
        return _draw(identity)[1] % len(self.digests) == place

    def _chosen(self, pool: "Pool", rows: list[int], place: int, count: int) -> list[Asked]:
        """What is not drawn at random: contradictions first, then what `model.selection` chooses.

        Each person has a share of the predictions, by a hash, so that two do not label the same at the same time.
        Where the share holds too little, it is all.
        """
        disputed = [row for row in rows if pool.ids[row] in pool.said]
        waiting = [row for row in rows if pool.ids[row] not in pool.said]
        share = [row for row in waiting if self._shares(pool.ids[row], place)]
        waiting = share if len(share) >= count else waiting
        labels = Counter(said.label for person in pool.said.values() for said in person.values())
        counts = [labels[digit] for digit in range(pool.probabilities.shape[1])]
        found = choose(pool.probabilities[waiting], pool.pixels[waiting], count, labelled=counts, turn=pool.given)
        why = [(row, next(iter(pool.said[pool.ids[row]].values())).asked) for row in disputed[:count]]
        why += [(waiting[one.row], one.why) for one in found]
        return [
            Asked(pool.ids[row], asked, row in disputed, pool.pixels[row], pool.probabilities[row])
            for row, asked in why
        ]


def item(question: Asked, token: str, labels: Labels) -> dict[str, object]:
    """A picture as the page gets it. What is hidden is not sent."""
    shown = None if question.blind else question.shown
    return {
        "token": token,
        "prediction_id": question.prediction_id,
        "image": data_url(question.pixels),
        "asked": "uncertain" if question.asked == "golden" else question.asked,
        "blind": question.blind,
        "prediction": None if shown is None else labels.values[int(shown.argmax())],
        "probabilities": shown,
    }


def summary(stats: "Stats", predictor: Predictor) -> dict[str, object]:
    """The body of GET /label/stats."""
    right = {identity: place for place, identity in enumerate(golden_ids(predictor))}
    people: dict[str, dict[str, object]] = {}
    for by in {count.by for count in stats.counts}:
        asked = {count.asked: count.labels for count in stats.counts if count.by == by}
        known = [right[identity] == label for who, identity, label in stats.golden if who == by]
        people[by] = {"labels": sum(asked.values()), "asked": asked, "golden": len(known), "right": sum(known)}
    return {"waiting": stats.waiting, "people": people}


def golden_ids(predictor: Predictor) -> list[str]:
    """The ids of the golden pictures of a model, in the order of its classes."""
    golden = predictor.golden
    return [golden_id(predictor.manifest.version, place) for place in range(len(golden.pixels) if golden else 0)]


def _contradictory(said: "dict[str, Said]") -> bool:
    """Whether no label has more than half of at least two."""
    most = max(Counter(label for label, _ in said.values()).values())
    return len(said) > 1 and 2 * most <= len(said)


def _draw(identity: str) -> tuple[int, int]:
    """Two whole numbers below 2^32 that a hash of an id draws. Nobody chooses an id, so nobody can steer them."""
    digest = hashlib.sha256(f"audit {identity}".encode()).digest()
    return int.from_bytes(digest[:4]), int.from_bytes(digest[4:8])


def _set_aside(identity: str) -> bool:
    """Whether only an audit may ask about this prediction: true for one in `BLOCK`."""
    return _draw(identity)[0] % BLOCK == 0


def _turn(by: str, what: str, block: int, count: int) -> int:
    """A place among `count`, which differs from block to block: nobody learns where it comes."""
    return int.from_bytes(hashlib.sha256(f"{what} {by} {block}".encode()).digest()[:4]) % count


def _kind(by: str, turn: int) -> str:
    """`audit`, `golden` or `chosen`: what the picture in this place is, of all that a person gets."""
    block = turn // BLOCK
    if turn % BLOCK == _turn(by, "audit", block, BLOCK):
        return "audit"
    first = turn // GOLDEN * GOLDEN
    audits = {_turn(by, "audit", first // BLOCK + part, BLOCK) + part * BLOCK for part in range(GOLDEN // BLOCK)}
    free = [place for place in range(GOLDEN) if place not in audits]
    return "golden" if turn - first == free[_turn(by, "golden", first, len(free))] else "chosen"


def _golden(golden: Golden, version: str, by: str, turn: int) -> Asked:
    """A picture whose label is its place. Every other one shows a wrong answer: the second most probable."""
    place = _turn(by, "picture", turn, len(golden.pixels))
    shown = golden.prob[place].copy()
    other = int(np.argsort(np.delete(shown, place))[-1])
    other += other >= place
    top = int(shown.argmax())
    shown[top], shown[other] = shown[other], shown[top]
    blind = bool(turn // GOLDEN % 2)
    return Asked(golden_id(version, place), "golden", blind, golden.pixels[place], shown)
