"""Robustness curves: a table for DVC's plots, and a picture."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from model.robustness import DISTORTIONS, Point
from pipelines import stage

Curves: TypeAlias = Mapping[str, Sequence[Point]]  # the points of each classifier, by its name

COLUMNS: Final = ("classifier", "distortion", "view", "severity", "accuracy")
LINES: Final[Mapping[str, Literal["-", "--"]]] = {"bare": "-", "canonical": "--"}


def write(path: Path, curves: Curves) -> None:
    """Writes one row for each point."""
    with stage.writing(path) as half, half.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for name, points in curves.items():
            table.writerows([name, p.distortion, p.view, f"{p.severity:g}", p.accuracy] for p in points)


def read(path: Path) -> dict[str, list[Point]]:
    """The curves that `write` wrote, by classifier."""
    curves: dict[str, list[Point]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            point = Point(row["distortion"], row["view"], float(row["severity"]), float(row["accuracy"]))
            curves.setdefault(row["classifier"], []).append(point)
    return curves


def nested(points: Sequence[Point]) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy by distortion, view and severity, for metrics.json."""
    accuracy: dict[str, dict[str, dict[str, float]]] = {}
    for point in points:
        views = accuracy.setdefault(point.distortion, {})
        views.setdefault(point.view, {})[f"{point.severity:g}"] = point.accuracy
    return accuracy


def picture(curves: Curves, title: str) -> Figure:
    """A panel for each distortion, a colour for each classifier. Lines are dashed where `canonical` ran first."""
    figure = Figure(figsize=(16, 8), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(2, -(-len(DISTORTIONS) // 2), sharey=True).flat
    colours = {name: f"C{i}" for i, name in enumerate(curves)}
    for axes, (title_of_panel, distortion) in zip(panels, DISTORTIONS.items(), strict=True):
        for name, points in curves.items():
            for view, line in LINES.items():
                curve = [(p.severity, p.accuracy) for p in points if (p.distortion, p.view) == (title_of_panel, view)]
                axes.plot(*zip(*curve, strict=True), line, color=colours[name], marker=".", linewidth=1.5)
        axes.axvline(distortion.none, color="0.8", linewidth=0.8, zorder=0)
        axes.set(title=title_of_panel, xlabel=distortion.unit, ylim=(0, 1.02))
        axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.grid(alpha=0.3)
    keys = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    keys += [Line2D([], [], color="black", linestyle=line, label=view) for view, line in LINES.items()]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))
    return figure
