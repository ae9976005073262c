"""The picture of the story: accuracy, its two estimates, the evidence, and what happened."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib.pyplot as plt
import numpy as np

from samples.lifecycle.world import Asked

WINDOW: Final = 150  # answers that the curve of the true accuracy averages
MOST_EVIDENCE: Final = 12  # log10; more is drawn as this
COLOURS: Final = {"true": "#1b7f5a", "estimated": "#8a8a8a", "labelled": "#c23b22", "evidence": "#2b5d9b"}


@dataclass(frozen=True)
class Look:
    """What the watch said after `requests` requests."""

    requests: int
    summary: dict[str, Any]  # watch.json


@dataclass(frozen=True)
class Event:
    """Something that happened after `requests` requests."""

    requests: int
    text: str


def draw(asked: Sequence[Asked], looks: Sequence[Look], events: Sequence[Event], alpha: float, path: Path) -> None:
    """Writes the picture to `path`, as PNG or SVG."""
    figure, (upper, lower) = plt.subplots(
        2, 1, sharex=True, figsize=(11, 6), height_ratios=(3, 2), layout="constrained", dpi=110
    )
    right = np.array([one.digit == one.truth for one in asked], float)
    mean = np.convolve(right, np.ones(WINDOW) / WINDOW, "valid")
    upper.plot(np.arange(WINDOW, len(right) + 1), 100 * mean, color=COLOURS["true"], lw=2,
               label=f"true accuracy, mean of {WINDOW} answers (only the world knows it)")  # fmt: skip
    _interval(upper, looks, "estimated_accuracy", lambda share: 100 * share, "estimated", "estimate without labels")
    _interval(
        upper, looks, "error", lambda share: 100 * (1 - share), "labelled", "estimate from labels drawn at random"
    )
    upper.set_ylabel("accuracy, %")
    upper.set_ylim(bottom=70, top=100.5)
    upper.legend(loc="lower left", fontsize=8, framealpha=0.9)
    for name in sorted({name for look in looks for name in look.summary["evidence"]}):
        harm = name in ("confidence", "class")
        values = [
            min(value, MOST_EVIDENCE) for value in _of_each(looks, lambda summary, n=name: summary["evidence"].get(n))
        ]
        lower.plot([look.requests for look in _parted(looks)], values, marker=".", lw=1.8 if harm else 0.8,
                   color=COLOURS["evidence"] if harm else "#bbbbbb", ls="-" if name != "class" else "--",
                   label=name if harm else None)  # fmt: skip
    lower.axhline(-np.log10(alpha), color="#c23b22", lw=0.8, ls=":")
    lower.text(len(asked), -np.log10(alpha), f"alarm: {1 / alpha:,.0f} to 1", fontsize=8, va="bottom", ha="right",
               color="#c23b22")  # fmt: skip
    lower.set_ylim(-2, MOST_EVIDENCE + 1)
    lower.set_ylabel("evidence of drift, log10")
    lower.set_xlabel("requests")
    lower.legend(loc="upper left", fontsize=8)
    for axis in (upper, lower):
        axis.spines[["top", "right"]].set_visible(False)
        for event in events:
            axis.axvline(event.requests, color="#444444", lw=0.7, ls=(0, (2, 2)))
    for row, event in _rows(events, len(asked)):
        upper.annotate(event.text, (event.requests, 1), xycoords=("data", "axes fraction"), fontsize=9,
                       xytext=(3, 3 + 13 * row), textcoords="offset points", annotation_clip=False)  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _rows(events: Sequence[Event], requests: int) -> list[tuple[int, Event]]:
    """Each event with the row of its text above the picture: the lowest one where it covers no text before it."""
    ends: list[float] = []
    placed = []
    for event in events:
        row = next((row for row, end in enumerate(ends) if end <= event.requests), len(ends))
        ends[row : row + 1] = [event.requests + len(event.text) * requests / 140]
        placed.append((row, event))
    return placed


def _parted(looks: Sequence[Look]) -> list[Look]:
    """The looks, with one that says nothing between those at two models: a curve breaks there."""
    parted: list[Look] = []
    for look in looks:
        if parted and parted[-1].summary["model_version"] != look.summary["model_version"]:
            parted.append(Look(look.requests, {"model_version": look.summary["model_version"]}))
        parted.append(look)
    return parted


def _of_each(looks: Sequence[Look], of: Callable[[dict[str, Any]], float | None]) -> list[float]:
    """A number of each look, NaN where the curve breaks or the number is unknown."""
    found = (of(look.summary) if len(look.summary) > 1 else None for look in _parted(looks))
    return [np.nan if value is None else value for value in found]


def _interval(
    axis: Any, looks: Sequence[Look], name: str, of: Callable[[float], float], colour: str, label: str
) -> None:
    at = [look.requests for look in _parted(looks)]
    low, mean, high = (
        _of_each(looks, lambda summary, e=end: of(summary[name][e]) if (summary.get(name) or {}).get("count") else None)
        for end in ("low", "mean", "high")
    )
    axis.fill_between(at, low, high, color=COLOURS[colour], alpha=0.12, lw=0)
    axis.plot(at, mean, color=COLOURS[colour], marker=".", lw=1.2, label=label)
