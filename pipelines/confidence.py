"""How reliable the model's confidence is: a table for DVC's plots, and a picture."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from model.calibration import Trade, expected_calibration_error, reliability, trades

Confidences = Mapping[str, NDArray[np.floating]]  # of pictures without a digit, by kind


def draw(
    folder: Path,
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    outliers: Confidences,
    bins: int,
    abstain_below: float,
) -> None:
    """Writes coverage.csv, the coverage/accuracy curve of n x classes `probabilities`, and confidence.png."""
    curve = trades(probabilities, labels)
    with (folder / "coverage.csv").open("w", newline="") as file:
        table = csv.writer(file)
        refused = [f"{kind}_refused" for kind in outliers]
        table.writerow(["threshold", "coverage", "accuracy", *refused])
        for trade in curve:
            shares = [float((confidence < trade.threshold).mean()) for confidence in outliers.values()]
            table.writerow([trade.threshold, trade.coverage, trade.accuracy, *shares])
    figure = Figure(figsize=(12, 4), layout="constrained")
    answered, refused_axes, bars = figure.subplots(1, 3)
    chosen = float((probabilities.max(axis=1) >= abstain_below).mean())
    _answered(answered, curve, chosen)
    for kind, confidence in outliers.items():
        shares = [float((confidence < trade.threshold).mean()) for trade in curve]
        refused_axes.plot([trade.coverage for trade in curve], shares, label=kind)
    refused_axes.axvline(chosen, color="0.5", linestyle=":")
    refused_axes.set(title="No digit: refused", xlabel="share of digits answered", ylim=(0, 1.02))
    refused_axes.legend(loc="lower left")
    error = expected_calibration_error(probabilities, labels, bins)
    confidence, accuracy, count = np.array(reliability(probabilities, labels, bins)).T
    bars.plot([0, 1], [0, 1], color="0.8")
    bars.scatter(confidence, accuracy, s=8 + 200 * count / count.sum())
    bars.set(
        title=f"Calibration error {error:.2%}", xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02)
    )
    figure.savefig(folder / "confidence.png", dpi=90, metadata={"Software": None})


def _answered(axes: Axes, curve: list[Trade], chosen: float) -> None:
    axes.plot([trade.coverage for trade in curve], [trade.accuracy for trade in curve])
    axes.axvline(chosen, color="0.5", linestyle=":", label=f"answers {chosen:.2%}")
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.1%}")
    axes.set(title="Digits: accuracy of what is answered", xlabel="share of digits answered")
    axes.legend(loc="lower left")
