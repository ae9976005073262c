"""Judges the trained network on the frozen test split, and compares it with scikit-learn's classifiers."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import softmax
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, precision_recall_fscore_support
from tqdm import tqdm

from model.calibration import expected_calibration_error
from model.canonical import Pixels
from model.labels import are_digits
from model.networks.baselines import baselines
from model.networks.cnn import parameters
from model.robustness import Point, curves, points
from model.synthetic.outliers import KINDS, seen
from model.training import logits
from pipelines import confidence, paths, stage, tracking, weights
from pipelines.artefacts import Predictions, Prepared, Split
from pipelines.curves import nested, picture, write


class EvaluateParams(stage.Params, section="evaluate"):
    """How the network is judged."""

    baseline_images: int = Field(ge=100)
    calibration_bins: int = Field(ge=2, le=100)
    robustness_images: int = Field(ge=100)
    outliers: int = Field(ge=10)
    seed: int = Field(ge=0)


def judge(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.uint8],
    classes: Sequence[str],
    *,
    bins: int,
    abstain_below: float,
) -> dict[str, object]:
    """The metrics of n x classes calibrated probabilities, given n labels."""
    every = range(len(classes))
    digits, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    answered = confidence >= abstain_below
    precision, recall, f1, support = precision_recall_fscore_support(labels, digits, labels=every, zero_division=0.0)
    return {
        "images": len(labels),
        "errors": int((digits != labels).sum()),
        "accuracy": float(accuracy_score(labels, digits)),
        "log_loss": float(log_loss(labels, probabilities, labels=every)),
        "calibration_error": expected_calibration_error(probabilities, labels, bins),
        "coverage": float(answered.mean()),
        "accuracy_answered": float((digits == labels)[answered].mean()),
        "per_class": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "images": int(n)}
            for name, p, r, f, n in zip(classes, precision, recall, f1, support, strict=True)
        },
    }


def baseline_predictions(prepared: Prepared, params: EvaluateParams) -> dict[str, NDArray[np.uint8]]:
    """Each baseline's labels for the test split. Baselines train on at most `baseline_images` images."""
    images, labels = prepared.of(Split.TRAIN)
    chosen = np.random.default_rng(params.seed).permutation(len(images))[: params.baseline_images]
    test, _ = prepared.of(Split.TEST)
    predictions = {}
    for name, classifier in (bar := tqdm(baselines(params.seed).items(), desc="baselines", unit="classifier")):
        bar.set_postfix_str(name)
        predictions[name] = classifier.fit(images[chosen], labels[chosen]).predict(test).astype(np.uint8)
    return predictions


def robustness(
    images: Pixels, labels: NDArray[np.uint8], read: Callable[[Pixels], NDArray[np.integer]], params: EvaluateParams
) -> list[Point]:
    """All robustness curves of the classifier `read`, on at most `robustness_images` of the test split."""
    chosen = np.random.default_rng(params.seed).permutation(len(images))[: params.robustness_images]
    measured = curves(images[chosen], labels[chosen], read, seed=params.seed)
    return list(tqdm(measured, desc="robustness", total=points(), unit="point", mininterval=0.5))


def outliers(
    classify: Callable[[Pixels], NDArray[np.floating]], classes: Sequence[str], params: EvaluateParams
) -> dict[str, NDArray[np.floating]]:
    """The confidence in each picture of no class, by kind of picture. It is 0 if `canonical` refuses the picture.

    `classify` gives the probabilities of n x 28 x 28 images. Printed letters are such pictures only for digits.
    """
    confidences = {}
    for kind, draw_pictures in KINDS.items():
        if kind == "letters" and not are_digits(classes):
            continue
        pixels, refused = seen(draw_pictures(params.outliers, params.seed))
        confidence = classify(pixels).max(axis=1) if len(pixels) else np.empty(0)
        confidences[kind] = np.concatenate([confidence, np.zeros(refused)])
    return confidences


def draw(folder: Path, images: Pixels, labels: NDArray[np.uint8], classes: Sequence[str],
         probabilities: NDArray[np.floating], metrics: Mapping[str, object]) -> None:  # fmt: skip
    """Writes confusion.csv and per_class.csv for DVC's plots, confusion.png and errors.png for people."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = probabilities.argmax(axis=1)
    with (folder / "confusion.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["actual", "predicted"])
        rows.writerows((classes[label], classes[digit]) for label, digit in zip(labels, digits, strict=True))
    with (folder / "per_class.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["label", "precision", "recall", "f1", "images"])
        table.writerows([name, *values.values()] for name, values in metrics["per_class"].items())  # type: ignore[attr-defined]
    _confusion(labels, digits, classes).savefig(folder / "confusion.png", dpi=120, metadata={"Software": None})
    _errors(images, labels, classes, probabilities).savefig(folder / "errors.png", dpi=120, metadata={"Software": None})


def _confusion(labels: NDArray[np.uint8], digits: NDArray[np.integer], classes: Sequence[str]) -> Figure:
    every = range(len(classes))
    counts = confusion_matrix(labels, digits, labels=every)
    side = max(5, len(classes) / 3)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.log1p(counts), cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(column, row, str(count), ha="center", va="center", color="white" if row == column else "black")
    axes.set(xlabel="read as", ylabel="is", title="Test split")
    axes.set_xticks(every, classes)
    axes.set_yticks(every, classes)
    return figure


def _errors(images: Pixels, labels: NDArray[np.uint8], classes: Sequence[str], probabilities: NDArray[np.floating],
            most: int = 40) -> Figure:  # fmt: skip
    """The images that were read wrongly, the most confident errors first."""
    digits, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(digits != labels)
    wrong = wrong[np.argsort(-confidence[wrong])]
    rows = -(-max(1, min(len(wrong), most)) // 8)
    figure = Figure(figsize=(8, 1.3 * rows + 0.5), layout="constrained")
    figure.suptitle(f"{len(wrong)} of {len(labels)} read wrongly: label → answer, confidence")
    for axes, row in zip(
        figure.subplots(rows, 8, squeeze=False).flat, [*wrong[:most], *[None] * (rows * 8)], strict=False
    ):
        axes.axis("off")
        if row is not None:
            axes.imshow(images[row], cmap="gray_r")
            axes.set_title(f"{classes[labels[row]]} → {classes[digits[row]]}  {confidence[row]:.0%}", fontsize=8)
    return figure


def main() -> None:
    params = EvaluateParams.load()
    prepared = Prepared.load(paths.PREPARED)
    classes = prepared.classes
    images, labels = prepared.of(Split.TEST)
    network, calibration = weights.load()
    probabilities = softmax(logits(network, images) / calibration["temperature"], axis=1)
    abstain_below = calibration["abstain_below"]
    metrics = judge(probabilities, labels, classes, bins=params.calibration_bins, abstain_below=abstain_below)
    metrics["parameters"] = parameters(network)
    rivals = baseline_predictions(prepared, params)
    trained_on = min(params.baseline_images, int((prepared.splits == Split.TRAIN).sum()))
    metrics["baselines"] = {
        name: {"accuracy": float(accuracy_score(labels, digits)), "trained_on": trained_on}
        for name, digits in rivals.items()
    }
    unknown = outliers(
        lambda pixels: softmax(logits(network, pixels) / calibration["temperature"], axis=1), classes, params
    )
    refused = {kind: float((sure < abstain_below).mean()) for kind, sure in unknown.items()}
    metrics["outliers"] = {kind: {"images": params.outliers, "refused": share} for kind, share in refused.items()}
    curve_points = robustness(images, labels, lambda pixels: logits(network, pixels).argmax(axis=1), params)
    distorted = min(params.robustness_images, len(images))
    metrics["robustness"] = {"images": distorted, "accuracy": nested(curve_points)}
    stage.write_json(paths.METRICS, metrics)
    Predictions(labels, probabilities, rivals).save(paths.PREDICTIONS)
    draw(paths.PLOTS, images, labels, classes, probabilities, metrics)
    write(paths.PLOTS / "robustness.csv", {"cnn": curve_points})
    title = f"The network that is served, on {distorted:,} test images"
    picture({"cnn": curve_points}, title).savefig(paths.PLOTS / "robustness.png", dpi=80, metadata={"Software": None})
    confidence.draw(paths.PLOTS, probabilities, labels, unknown, params.calibration_bins, abstain_below)
    run = tracking.Run.resume()
    run.metrics({f"test.{name}": value for name, value in stage.flat(metrics).items()})
    run.artifact(paths.METRICS)
    run.artifact(paths.PLOTS)
    baseline_text = ", ".join(f"{name} {accuracy_score(labels, digits):.2%}" for name, digits in rivals.items())
    refused_text = ", ".join(f"{kind} {share:.0%}" for kind, share in refused.items())
    print(f"evaluate: {metrics['accuracy']:.2%} of {len(labels):,} test images ({metrics['errors']} errors);"
          f" {baseline_text}; refused: {refused_text}")  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
