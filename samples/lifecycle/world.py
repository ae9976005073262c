"""The people of the story: writers, each with one picture, and a person who labels.

They know the service by its HTTP interface alone. Only the world knows what a writer meant; the picture of the story
shows it, and nothing in the loop does.
"""

import io
import json
import re
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from PIL import Image

from model.synthetic import CAREFUL, written
from model.synthetic.styles import STYLES, Style, without

NEW: Final = ("slashed", "with a foot", "footed", "flag", "crossed", "serif")  # words for the styles of the newcomers
JSON: Final = {"Content-Type": "application/json"}
# The newcomers write prices: every fourth digit is a zero, every fifth a one.
PRICES: Final = (0.25, 0.2, 0.07, 0.07, 0.07, 0.08, 0.06, 0.07, 0.06, 0.07)
CLIENTS: Final = 4  # requests at a time

Styles = Mapping[int, Sequence[Style]]


def newcomers() -> Styles:
    """How the newcomers write: zero, one and seven in the styles that `NEW` names, other digits as everybody."""
    usual = without(NEW)
    return {digit: [style for style in styles if style not in usual[digit]] or usual[digit]
            for digit, styles in STYLES.items()}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """One request to /predict and its answer, beside what the writer meant."""

    number: int  # requests before it
    truth: int
    digit: int
    model: str


@dataclass
class World:
    """Everybody outside the service at `address`. Equal seeds give equal pictures."""

    address: str
    seed: int
    asked: list[Asked] = field(default_factory=list)
    meant: dict[str, int] = field(default_factory=dict)  # by prediction id
    senders: dict[str, int] = field(default_factory=dict)  # by prediction id, the number of the request

    def ask(self, count: int, newcomers_share: float = 0.0) -> None:
        """`count` people send one picture each. `newcomers_share` of them write as the newcomers do."""
        rng = np.random.default_rng((self.seed, len(self.asked)))
        new = int(np.rint(count * newcomers_share))
        usual = [*_pictures(without(NEW), count - new, rng)]
        pictures = [*usual, *_pictures(newcomers(), new, rng, PRICES)]
        order = rng.permutation(count)
        start = len(self.asked)
        answers = _in_parallel(self._predict, [(pictures[i][1], start + at) for at, i in enumerate(order)])
        for at, (i, answer) in enumerate(zip(order, answers, strict=True)):
            self.asked.append(Asked(start + at, pictures[i][0], answer["digit"], answer["model_version"]))
            self.meant[answer["prediction_id"]] = pictures[i][0]
            self.senders[answer["prediction_id"]] = start + at

    def lie(self, count: int) -> None:
        """The senders of the last `count` pictures say that each shows the digit after the one that they meant."""
        last = [*self.meant.items()][-count:]
        calls = [
            ("/feedback", json.dumps({"prediction_id": name, "label": (digit + 1) % 10}).encode(), self.senders[name])
            for name, digit in last
        ]
        _in_parallel(lambda path, body, number: call(self.address, path, body, _from(number) | JSON), calls)

    def version(self) -> str:
        """The version of the model that answers."""
        return str(call(self.address, "/version")["version"])

    def wait_for(self, version: str) -> None:
        """Until this model answers."""
        while self.version() != version:
            time.sleep(0.1)

    def shadowed(self) -> str:
        """How often the challenger agreed with the model that answers, from /metrics."""
        with urllib.request.urlopen(self.address + "/metrics", timeout=30) as response:
            text = response.read().decode()
        agrees, disagrees = (
            float(re.search(rf'^neocog_shadow_total{{result="{result}"}} (\S+)', text, re.MULTILINE)[1])  # type: ignore[index]
            for result in ("agrees", "disagrees")
        )
        return f"the challenger answered {agrees:.0f} pictures alike and {disagrees:.0f} otherwise"

    def accuracy(self, last: int) -> float:
        """Of the `last` answers."""
        return float(np.mean([one.digit == one.truth for one in self.asked[-last:]]))

    def _predict(self, picture: bytes, number: int) -> dict[str, Any]:
        return call(self.address, "/predict", picture, _from(number) | {"Content-Type": "image/png"})


def _from(number: int) -> dict[str, str]:
    """The header by which the trusted proxy says whose request it forwards."""
    return {"X-Forwarded-For": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"}


def _pictures(
    styles: Styles, count: int, rng: np.random.Generator, shares: Sequence[float] = (0.1,) * 10
) -> Iterator[tuple[int, bytes]]:
    """`count` digits with their PNG files, as someone draws or scans them: canonical has not seen them."""
    digits = rng.choice(10, count, p=shares)
    for digit in range(10):
        known = styles[digit]
        weights = np.array([style.weight for style in known])
        counts = rng.multinomial(int((digits == digit).sum()), weights / weights.sum())
        for style, of_style in zip(known, counts, strict=True):
            for _, pixels in written(style, int(of_style), CAREFUL, rng):
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "PNG")
                yield digit, file.getvalue()


def _in_parallel(function: Any, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    with ThreadPoolExecutor(CLIENTS) as threads:
        return [*threads.map(lambda arguments: function(*arguments), calls)]


def call(address: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON that the service answers. Raises `urllib.error.HTTPError`."""
    request = urllib.request.Request(address + path, body, dict(headers or {}))
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())
