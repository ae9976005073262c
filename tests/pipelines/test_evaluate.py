"""The metrics and the pictures of a model."""

import csv

import numpy as np
import pytest
from PIL import Image

from model.robustness import points
from pipelines.artefacts import Prepared, Split
from pipelines.evaluate import EvaluateParams, baseline_predictions, draw, judge, outliers, robustness
from tests.bundles import DIGITS

LABELS = np.tile(np.arange(10), 5).astype(np.uint8)
CLASSES = tuple("ABCDEFGHIJ")


@pytest.fixture
def probabilities():
    """Right on all but three 4s. They are read as 9, one of them with low confidence."""
    sure = np.full((50, 10), 0.1 / 9)
    sure[np.arange(50), LABELS] = 0.9
    fours = np.flatnonzero(LABELS == 4)
    sure[fours[:3], 4], sure[fours[:3], 9] = 0.1 / 9, 0.9
    sure[fours[0], 9] = 0.4
    return sure / sure.sum(axis=1, keepdims=True)


def test_the_metrics_follow_their_definitions(probabilities):
    found = judge(probabilities, LABELS, CLASSES, bins=10, abstain_below=0.9)
    assert (found["images"], found["errors"], found["accuracy"]) == (50, 3, 0.94)
    assert found["coverage"] == pytest.approx(49 / 50)
    assert found["accuracy_answered"] == pytest.approx(47 / 49)
    assert found["per_class"]["E"] == {"precision": 1.0, "recall": 0.4, "f1": pytest.approx(4 / 7), "images": 5}
    assert found["per_class"]["J"]["precision"] == pytest.approx(5 / 8)
    assert found["log_loss"] == pytest.approx(-np.log(probabilities[np.arange(50), LABELS]).mean())


def test_the_plots_hold_every_prediction(tmp_path, probabilities):
    images = np.tile(DIGITS, (5, 1, 1))
    draw(
        tmp_path,
        images,
        LABELS,
        CLASSES,
        probabilities,
        judge(probabilities, LABELS, CLASSES, bins=10, abstain_below=0.5),
    )
    with (tmp_path / "confusion.csv").open() as file:
        rows = [(row["actual"], row["predicted"]) for row in csv.DictReader(file)]
    read = probabilities.argmax(axis=1)
    assert rows == [(CLASSES[label], CLASSES[digit]) for label, digit in zip(LABELS, read, strict=True)]
    with (tmp_path / "per_class.csv").open() as file:
        assert {row["label"]: row["recall"] for row in csv.DictReader(file)}["E"] == "0.4"
    for name in ("confusion.png", "errors.png"):
        with Image.open(tmp_path / name) as picture:
            assert min(picture.size) > 100


def test_a_model_without_errors_has_pictures_too(tmp_path):
    perfect = np.eye(10)[LABELS]
    draw(
        tmp_path,
        np.tile(DIGITS, (5, 1, 1)),
        LABELS,
        CLASSES,
        perfect,
        judge(perfect, LABELS, CLASSES, bins=10, abstain_below=0.5),
    )
    assert (tmp_path / "errors.png").exists()


def test_the_baselines_never_see_the_test_split():
    images, labels = np.tile(DIGITS, (6, 1, 1)), np.tile(np.arange(10), 6).astype(np.uint8)
    splits = np.repeat([Split.TRAIN, Split.TEST], [50, 10]).astype(np.uint8)
    labels[50:] = (labels[50:] + 1) % 10  # a baseline that saw these would give other digits
    prepared = Prepared(images, labels, CLASSES, splits, np.arange(60))
    predictions = baseline_predictions(prepared, EvaluateParams.load())
    assert {name: digits.tolist() for name, digits in predictions.items()} == {
        "logistic_regression": list(range(10)),
        "rbf_svm": list(range(10)),
    }


@pytest.mark.parametrize(
    ("classes", "kinds"),
    [(("3", "7"), {"letters", "scribbles", "noise"}), (("3", "A"), {"scribbles", "noise"})],
    ids=["digits", "letters"],
)
def test_printed_letters_are_of_no_class_only_if_every_class_is_a_digit(classes, kinds):
    params = EvaluateParams.load().model_copy(update={"outliers": 10})
    found = outliers(lambda pixels: np.full((len(pixels), 2), 0.5), classes, params)
    assert set(found) == kinds
    assert {len(confidences) for confidences in found.values()} == {10}


def test_the_curves_always_use_the_same_part_of_the_test_split():
    images, labels = np.tile(DIGITS, (30, 1, 1)), np.tile(np.arange(10), 30).astype(np.uint8)
    asked = []

    def read(pixels):
        asked.append(pixels)
        return pixels.reshape(len(pixels), -1).argmax(axis=1) % 10

    params = EvaluateParams.load().model_copy(update={"robustness_images": 100})
    found = robustness(images, labels, read, params)
    assert len(found) == points()
    assert {len(pixels) for pixels in asked} == {100}
    assert robustness(images, labels, read, params) == found


@pytest.fixture(autouse=True)
def _parameters(in_folder):
    """EvaluateParams are read from the current folder."""
