"""Charts as inline SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 220
LEFT: Final = 48  # pixels for the scale
BOTTOM: Final = 24  # pixels for the times
COLOURS: Final = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")


@dataclass(frozen=True)
class Line:
    """A named line through points, with an interval around it where `low` and `high` are given."""

    name: str
    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def moment(time: float) -> str:
    """A time that a person reads, in UTC."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}"


def lines(times: Sequence[float], drawn: Sequence[Line], *, level: float, level_name: str, percent: bool) -> str:
    """Lines over `times`, and a dashed one at `level`."""
    if len(times) < 2:
        return "<p>Too little was counted for a curve.</p>"
    ends = [v for line in drawn for part in (line.values, line.low, line.high) for v in part or ()]
    bottom, top = min(*ends, level), max(*ends, level)
    spread = (top - bottom) or 1.0

    def x(time: float) -> float:
        return LEFT + (time - times[0]) / ((times[-1] - times[0]) or 1) * (WIDTH - LEFT)

    def y(value: float) -> float:
        return (HEIGHT - BOTTOM) * (1 - (value - bottom) / spread) * 0.96 + 4

    def path(values: Sequence[float], at: Sequence[float]) -> str:
        return " ".join(f"{x(time):.1f},{y(value):.1f}" for time, value in zip(at, values, strict=True))

    parts = []
    for line, colour in zip(drawn, COLOURS, strict=False):
        if line.low is not None and line.high is not None:
            band = f"{path(line.low, times)} {path(line.high[::-1], times[::-1])}"
            parts.append(f'<polygon points="{band}" fill="{colour}" opacity="0.15"/>')
        parts.append(
            f'<polyline points="{path(line.values, times)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )
    parts.append(
        f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y(level):.1f}" y2="{y(level):.1f}" stroke="#333" stroke-dasharray="5 4"/>'
    )
    for value in (bottom, top):
        shown = f"{value:.1%}" if percent else f"{value:.1f}"
        parts.append(f'<text x="{LEFT - 4}" y="{y(value) + 4:.1f}" text-anchor="end">{shown}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 4}">{moment(times[0])}</text>')
    parts.append(f'<text x="{WIDTH}" y="{HEIGHT - 4}" text-anchor="end">{moment(times[-1])}</text>')
    legend = "".join(
        f'<span style="color:{c}">■ {escape(line.name)}</span> ' for line, c in zip(drawn, COLOURS, strict=False)
    )
    return f"{_svg(parts)}<p class=legend>{legend}<span>┄ {escape(level_name)}</span></p>"


def bars(names: Sequence[str], now: Sequence[float], before: Sequence[float]) -> str:
    """Two bars for each name: its share now, and in the reference."""
    width = (WIDTH - LEFT) / max(1, len(names))
    top = max([*now, *before, 1e-9])
    parts = []
    for at, (name, one, other) in enumerate(zip(names, now, before, strict=True)):
        for place, (share, colour) in enumerate(((other, "#bbbbbb"), (one, COLOURS[0]))):
            height = share / top * (HEIGHT - BOTTOM - 4)
            left = LEFT + at * width + place * width * 0.4
            bar = f'x="{left:.1f}" y="{HEIGHT - BOTTOM - height:.1f}" width="{width * 0.38:.1f}" height="{height:.1f}"'
            parts.append(f'<rect {bar} fill="{colour}"><title>{escape(name)}: {share:.1%}</title></rect>')
        middle = LEFT + at * width + width * 0.4
        parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(name)}</text>')
    parts.append(f'<text x="{LEFT - 4}" y="12" text-anchor="end">{top:.0%}</text>')
    legend = (
        f'<p class=legend><span style="color:{COLOURS[0]}">■ now</span> <span style="color:#888">■ reference</span></p>'
    )
    return _svg(parts) + legend


def _svg(parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
