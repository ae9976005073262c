"""The report: one HTML file without anything from elsewhere. Whatever a client sent is escaped."""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import log10
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from journal.queries import Recent
from journal.tables import unpack
from model.drift import HARM, Reference
from model.statistics import NAMES
from pipelines.watching.charts import Line, bars, lines, moment
from pipelines.watching.state import Alarm, State

PICTURES: Final = 24
CALLERS: Final = 5  # named in a table, at most
_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;max-width:760px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3em .6em}
td{border-top:1px solid #ddd;vertical-align:top}
svg{width:100%}svg text{font-size:11px;fill:#555}.legend{font-size:13px}
.pictures{display:flex;flex-wrap:wrap;gap:10px}figure{margin:0;width:110px;font-size:12px;overflow-wrap:anywhere}
img{width:84px;height:84px;image-rendering:pixelated;background:#000}
.harm,.risk{color:#b00020}.changed{color:#9a6700}.steady{color:#1a7f37}
"""
SAID: Final = {
    "harm": "The model errs more often than its reference. Labels prove it.",
    "risk": "The model is unsure more often than on its reference. Labels would show whether it errs.",
    "changed": "What comes has changed. There is no proof that the model errs more often.",
    "steady": "Nothing is known to have changed.",
    "learning": "What usually comes is being learned. Risk and harm are watched already.",
}
WHAT: Final = {"harm": "harm: more errors", "risk": "risk: less sure", "change": "change"}


def html(state: State, said: Mapping[str, Any], newest: Sequence[Recent], labels: Sequence[str]) -> str:
    """The page for a summary `said` of `state`; `newest` are the model's last predictions, `labels` the bundle's."""
    status = said["status"]
    parts = [
        f"<h1>Model {escape(said['model_version'])}: <span class={status}>{status}</span></h1>",
        f"<p>{SAID[status]}</p>",
        *_numbers(state, said),
        "<h2>Alarms</h2>",
        _alarms(state, said, newest),
        "<h2>Evidence of change</h2>",
        "<p>Logarithms to base 10. "
        f"Of these, {' and '.join(HARM)} tell of errors. Harmless styles change the others, too.</p>",
        _evidence(state),
        "<h2>Accuracy, estimated without labels</h2>",
        _accuracy(state),
        "<h2>Error rate, from labels</h2>",
        _errors(state, said),
        f"<h2>Classes of the last {len(newest):,} predictions</h2>",
        _classes(state.production or state.reference, newest, labels),
        "<h2>Pictures</h2>",
        "<p>The least confident of the last predictions, those of classes that come more often than before first.</p>",
        _pictures(state.production or state.reference, newest, labels),
    ]
    title = f"Model {escape(said['model_version'])}: {status}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"{''.join(parts)}<p>{moment(said['updated'])} UTC</p></html>\n"
    )


def _numbers(state: State, said: Mapping[str, Any]) -> Iterator[str]:
    counts = state.counts
    yield (
        f"<p>{counts.predictions:,} predictions were read, {counts.counted:,} of them counted: at most "
        f"{state.params.per_session} of a caller's session. {counts.abstained:,} were left to a person. "
        f"{counts.other_models:,} were of other models, {counts.damaged:,} could not be read.</p>"
    )
    if said["error"] is None:
        yield "<p>No label of a picture drawn at random came: the error rate is not known."
        if said["volunteered"]:
            yield (
                f" Of {said['volunteered']['count']:,} labels that people chose to send,"
                f" {said['volunteered']['mean']:.1%} say that the model erred."
                " People report errors rather than right answers, so that says little."
            )
        yield "</p>"


def cost(said: Mapping[str, Any]) -> str:
    """How many more errors than on the reference 1,000 answers have."""
    known = said["error"]
    source = "by labels"
    if known is None and (accuracy := said["estimated_accuracy"]) is not None:
        known = {"mean": 1 - accuracy["mean"], "low": 1 - accuracy["high"], "high": 1 - accuracy["low"]}
        source = "estimated without labels"
    if known is None:
        return "not known"
    mean, low, high = (1000 * (known[name] - said["reference_error"]) for name in ("mean", "low", "high"))
    return f"{mean:+.0f} errors per 1,000 answers ({low:+.0f} to {high:+.0f}), {source}"


def _alarms(state: State, said: Mapping[str, Any], newest: Sequence[Recent]) -> str:
    if not state.alarms:
        return "<p>None has rung.</p>"
    rows = [
        f"<tr><td class={escape(alarm.kind)}>{WHAT[alarm.kind]}<br>{escape(alarm.statistic)}"
        f"<td>{moment(alarm.since)}<br>noticed {moment(alarm.time)}"
        f"<td>{_concerned(state, alarm, newest)}<td>{cost(said)}"
        for alarm in state.alarms
    ]
    return f"<table><tr><th>What<th>Since<th>Whom it concerns<th>What it costs{''.join(rows)}</table>"


def _concerned(state: State, alarm: Alarm, newest: Sequence[Recent]) -> str:
    """The callers and tags that have most of the unsure predictions since an alarm's beginning."""
    since = [row for row in newest if row.time >= alarm.since]
    unsure = [row for row in since if row.confidence < state.reference.atc_threshold]
    if not unsure:
        return f"none of the last {len(since):,} predictions since then is unsure"
    text = f"{len(unsure):,} of the last {len(since):,} predictions are unsure"
    for name, of in (("callers", Counter(row.caller for row in unsure)), ("tags", Counter(row.tag for row in unsure))):
        named = [f"{escape(one)} {many / len(unsure):.0%}" for one, many in of.most_common(CALLERS) if one is not None]
        if named:
            text += f"<br>{name}: {', '.join(named)}"
    return text


def _evidence(state: State) -> str:
    points = state.curve.points
    drawn = [Line(name, [point[5 + at] for point in points]) for at, name in enumerate(NAMES)]
    level = log10(1 / state.params.alpha)
    name = f"their average above {level:.1f} is an alarm"
    return lines([point[0] for point in points], drawn, level=level, level_name=name, percent=False)


def _accuracy(state: State) -> str:
    times, _, mean, low, high, *_ = _columns(state.curve.points, 5)
    drawn = [Line("estimated accuracy, and its interval", mean, low, high)]
    return lines(times, drawn, level=1 - state.tolerated, level_name="an interval below it is an alarm", percent=True)


def _errors(state: State, said: Mapping[str, Any]) -> str:
    times, _, mean, low, high = _columns(state.errors.points, 5)
    drawn = [Line("error rate, and its interval", mean, low, high)]
    return lines(
        times, drawn, level=said["tolerated_error"], level_name="an interval above it is an alarm", percent=True
    )


def _columns(points: Sequence[Sequence[float]], count: int) -> list[list[float]]:
    return [[point[at] for point in points] for at in range(count)]


def _mix(reference: Reference, newest: Sequence[Recent], labels: Sequence[str]) -> tuple[
    list[str], NDArray[np.float64], NDArray[np.float64]
]:  # fmt: skip
    """The names of the class bins, their shares among the newest predictions, and in the reference.

    Rare neighbouring classes may share a bin.
    """
    at = NAMES.index("class")
    shares = reference.shares("class")
    last = [*reference.edges[at, : len(shares) - 1].astype(int), len(labels) - 1]
    first = [0, *(one + 1 for one in last[:-1])]
    names = [labels[a] if a == b else f"{labels[a]}–{labels[b]}" for a, b in zip(first, last, strict=True)]
    places = np.searchsorted(last, [row.digit for row in newest])
    now = np.bincount(places, minlength=len(last)) / max(1, len(newest))
    return names, now, shares


def _classes(reference: Reference, newest: Sequence[Recent], labels: Sequence[str]) -> str:
    names, now, before = _mix(reference, newest, labels)
    return bars(names, now.tolist(), before.tolist())


def _pictures(reference: Reference, newest: Sequence[Recent], labels: Sequence[str]) -> str:
    names, now, before = _mix(reference, newest, labels)
    more = {name for name, one, other in zip(names, now, before, strict=True) if one > other}

    def order(row: Recent) -> tuple[bool, float]:
        return labels[row.digit] not in more, row.confidence

    return f"<div class=pictures>{''.join(_figure(row, labels) for row in sorted(newest, key=order)[:PICTURES])}</div>"


def _figure(row: Recent, labels: Sequence[str]) -> str:
    file = io.BytesIO()
    Image.fromarray(unpack(row.image)).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    answer = "no answer" if row.abstained else f"<b>{escape(labels[row.digit])}</b>"
    known = [f"{answer}, {row.confidence:.0%}", moment(row.time)]
    known += [escape(one) for one in (row.caller, row.tag) if one]
    return (
        f'<figure><img alt="" src="data:image/png;base64,{data}"><figcaption>{"<br>".join(known)}</figcaption></figure>'
    )
