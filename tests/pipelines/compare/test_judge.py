"""Every classifier of the line-up is judged in the same way."""

import json
import sys

import numpy as np
import pytest

from model.networks.lineup import LINE_UP
from model.robustness import points
from pipelines import paths
from pipelines.artefacts import Prepared, Split
from pipelines.compare import judge
from pipelines.curves import read
from pipelines.stage import StageError
from tests.bundles import DIGITS

pytestmark = pytest.mark.slow

PARAMS = judge.CompareParams(robustness_images=100, timed_images=10, seed=0)


class Nearest:
    """Gives an image the label of the most similar training image. It keeps the training images."""

    def fit(self, images, labels):
        self.images, self.labels = images, labels

    def scores(self, images):
        likeness = images.reshape(len(images), -1).astype(np.float32) @ self.images.reshape(len(self.images), -1).T
        return np.eye(10)[self.labels[(likeness / np.linalg.norm(self.images, axis=(1, 2))).argmax(axis=1)]]


@pytest.fixture
def nearest(monkeypatch):
    """Replaces the first classifier of the line-up by one that trains at once, on at most 40 images."""
    made = Nearest()

    class Entry:
        year = 1967
        images = 40
        build = staticmethod(lambda seed: made)

    monkeypatch.setitem(LINE_UP, "logistic_regression", Entry)
    return made


@pytest.fixture
def prepared():
    images, labels = np.tile(DIGITS, (20, 1, 1)), np.tile(np.arange(10), 20).astype(np.uint8)
    splits = np.repeat([Split.TRAIN, Split.VALIDATION, Split.TEST], [60, 20, 120]).astype(np.uint8)
    labels[splits == Split.VALIDATION] = 0  # a classifier that trained on these would answer 0
    return Prepared(images, labels, tuple("0123456789"), splits, np.arange(200))


def test_a_classifier_trains_on_no_more_images_than_its_limit(nearest, prepared):
    metrics, curves = judge.judge("logistic_regression", prepared, PARAMS)
    assert len(nearest.images) == metrics["trained_on"] == 40
    assert set(nearest.labels) == set(range(10))
    assert (metrics["test_images"], metrics["errors"], metrics["accuracy"]) == (120, 0, 1.0)
    assert metrics["fit_seconds"] >= 0
    assert metrics["us_per_image"] > 0
    assert len(curves) == points()


def test_only_the_times_differ_between_two_runs(nearest, prepared):
    (one, curves), (other, same) = (judge.judge("logistic_regression", prepared, PARAMS) for _ in range(2))
    assert curves == same
    times = {"fit_seconds", "us_per_image"}
    assert {k: v for k, v in one.items() if k not in times} == {k: v for k, v in other.items() if k not in times}


@pytest.mark.parametrize(("arguments", "shown"), [([], "'none'"), (["cnn", "vit"], "'cnn vit'"), (["gpt"], "'gpt'")])
def test_an_unknown_classifier_is_refused_in_one_line(arguments, shown):
    with pytest.raises(StageError) as raised:
        judge.named(arguments)
    assert str(raised.value) == f"name one classifier, not {shown}; allowed are {', '.join(LINE_UP)}"


def test_the_stage_writes_the_files_that_the_table_reads(nearest, prepared, in_folder, monkeypatch, capsys):
    prepared.save(paths.PREPARED)
    monkeypatch.setattr(sys, "argv", ["judge", "logistic_regression"])
    judge.main()
    assert capsys.readouterr().out.startswith("logistic_regression: 100.00% of 120 test images, trained on 40 in")
    assert json.loads((paths.COMPARE / "logistic_regression.json").read_text())["accuracy"] == 1
    assert list(read(paths.COMPARE / "logistic_regression.csv")) == ["logistic_regression"]
