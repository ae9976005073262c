"""Puts the metrics of all classifiers into one table, and their robustness curves into one picture."""

import csv
import json
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from model.networks.lineup import LINE_UP
from model.robustness import DISTORTIONS, VIEWS, Point
from pipelines import paths, stage
from pipelines.curves import picture, read, write

NEAR: Final = 2  # pixels of shift that the table shows
FAR: Final = 8


def columns(metrics: Mapping[str, float], points: Sequence[Point]) -> dict[str, float]:
    """A classifier's row: its metrics, three points of its curves, and the mean of all distorted points."""
    row = dict(metrics)
    for view, shift in (("bare", NEAR), ("bare", FAR), ("canonical", FAR)):
        [row[f"{view}_shifted_{shift}"]] = [
            p.accuracy for p in points if (p.distortion, p.view, p.severity) == ("shift", view, shift)
        ]
    for view in VIEWS:
        distorted = [p.accuracy for p in points if p.view == view and p.severity != DISTORTIONS[p.distortion].none]
        row[f"{view}_distorted"] = float(np.mean(distorted))
    return row


def markdown(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The table for people. The robustness columns are measured on a part of the test images."""
    head = ["classifier", "year", "accuracy", "trained on", "fit, s", "µs an image", f"{NEAR} px off", f"{FAR} px off",
            f"{FAR} px off, canonical", "all distortions", "all, canonical"]  # fmt: skip
    lines = [
        [
            name, f"{row['year']}", f"{row['accuracy']:.2%}", f"{row['trained_on']:,}", f"{row['fit_seconds']:,}",
            f"{row['us_per_image']:,}", *(f"{row[key]:.1%}" for key in list(row)[-5:]),
        ]
        for name, row in rows.items()
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)) + "\n"


def main() -> None:
    rows: dict[str, dict[str, float]] = {}
    curves: dict[str, list[Point]] = {}
    for name in LINE_UP:
        curves |= read(paths.COMPARE / f"{name}.csv")
        rows[name] = columns(json.loads((paths.COMPARE / f"{name}.json").read_text()), curves[name])
    write(paths.COMPARE / "robustness.csv", curves)
    title = "Reading distorted digits, from Fukushima to today: solid by itself, dashed behind canonical"
    picture(curves, title).savefig(paths.COMPARE / "robustness.png", dpi=100, metadata={"Software": None})
    with stage.writing(paths.COMPARE / "table.csv") as half, half.open("w", newline="") as file:
        table = csv.DictWriter(file, ["classifier", *next(iter(rows.values()))])
        table.writeheader()
        table.writerows({"classifier": name, **row} for name, row in rows.items())
    text = markdown(rows)
    with stage.writing(paths.COMPARE / "table.md") as half:
        half.write_text(text)
    best = max(rows, key=lambda name: rows[name]["accuracy"])
    robust = max(rows, key=lambda name: rows[name]["bare_distorted"])
    print(text)
    print(f"table: {len(rows)} classifiers; {best} reads best ({rows[best]['accuracy']:.2%}), {robust} reads distorted"
          f" digits best ({rows[robust]['bare_distorted']:.1%}); see {paths.COMPARE}")  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
