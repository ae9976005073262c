"""The line-up is judged alike, and the table says what was found."""

import json
import sys

import numpy as np
import pytest

from model.networks.lineup import LINE_UP
from model.robustness import DISTORTIONS, VIEWS, Point, points
from pipelines import paths
from pipelines.artefacts import Prepared, Split
from pipelines.compare import judge, table
from pipelines.curves import read, write
from pipelines.stage import StageError
from tests.bundles import DIGITS

PARAMS = judge.CompareParams(robustness_images=100, timed_images=10, seed=0)


class Nearest:
    """Reads an image as the label of the training image it is most alike; remembers what it saw."""

    def fit(self, images, labels):
        self.images, self.labels = images, labels

    def scores(self, images):
        likeness = images.reshape(len(images), -1).astype(np.float32) @ self.images.reshape(len(self.images), -1).T
        return np.eye(10)[self.labels[(likeness / np.linalg.norm(self.images, axis=(1, 2))).argmax(axis=1)]]


@pytest.fixture
def nearest(monkeypatch):
    """The line-up's first place taken by a classifier that is trained in no time, on 40 images at most."""
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
    labels[splits == Split.VALIDATION] = 0  # who trained on these would say so
    return Prepared(images, labels, splits, np.arange(200))


def test_a_classifier_trains_on_as_many_training_images_as_it_may(nearest, prepared):
    found, course = judge.judge("logistic_regression", prepared, PARAMS)
    assert len(nearest.images) == found["trained_on"] == 40
    assert set(nearest.labels) == set(range(10))
    assert (found["test_images"], found["errors"], found["accuracy"]) == (120, 0, 1.0)
    assert found["fit_seconds"] >= 0
    assert found["us_per_image"] > 0
    assert len(course) == points()


def test_all_but_the_times_is_the_same_again(nearest, prepared):
    (one, curves), (other, same) = (judge.judge("logistic_regression", prepared, PARAMS) for _ in range(2))
    assert curves == same
    times = {"fit_seconds", "us_per_image"}
    assert {k: v for k, v in one.items() if k not in times} == {k: v for k, v in other.items() if k not in times}


@pytest.mark.parametrize(("arguments", "said"), [([], "'none'"), (["cnn", "vit"], "'cnn vit'"), (["gpt"], "'gpt'")])
def test_an_unknown_classifier_is_one_line(arguments, said):
    with pytest.raises(StageError) as raised:
        judge.named(arguments)
    assert str(raised.value) == f"name one classifier, not {said}; allowed are {', '.join(LINE_UP)}"


def test_the_stage_leaves_what_the_table_reads(nearest, prepared, in_folder, monkeypatch, capsys):
    prepared.save(paths.PREPARED)
    monkeypatch.setattr(sys, "argv", ["judge", "logistic_regression"])
    judge.main()
    assert capsys.readouterr().out.startswith("logistic_regression: 100.00% of 120 test images, trained on 40 in")
    assert json.loads((paths.COMPARE / "logistic_regression.json").read_text())["accuracy"] == 1
    assert list(read(paths.COMPARE / "logistic_regression.csv")) == ["logistic_regression"]


def course(clean, worse):
    """Curves that fall by `worse` with each severity; behind canonical not at all."""
    return [
        Point(name, view, severity, clean - worse * i * (view == "bare"))
        for name, known in DISTORTIONS.items()
        for i, severity in enumerate((known.none, *known.severities))
        for view in VIEWS
    ]


def test_the_table_has_a_row_for_every_classifier_in_the_order_of_the_line_up(in_folder, capsys):
    for i, name in enumerate(LINE_UP):
        metrics = {"year": 1980 + i, "trained_on": 60_000, "test_images": 10_000, "errors": 100 + i,
                   "accuracy": 0.99 - i / 1e4, "fit_seconds": 12.3, "us_per_image": 1_234.5}  # fmt: skip
        paths.COMPARE.mkdir(parents=True, exist_ok=True)
        (paths.COMPARE / f"{name}.json").write_text(json.dumps(metrics))
        write(paths.COMPARE / f"{name}.csv", {name: course(0.9, 0.1 if name == "rbf_svm" else 0.05)})
    table.main()
    head, _, *rows = (paths.COMPARE / "table.md").read_text().splitlines()
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in LINE_UP]
    assert head.count("|") == rows[0].count("|") == 12
    svm = next(row for row in rows if "rbf_svm" in row)
    assert svm.split(" | ", 3)[3] == "60,000 | 12.3 | 1,234.5 | 70.0% | 10.0% | 90.0% | 59.5% | 90.0% |"
    assert list(read(paths.COMPARE / "robustness.csv")) == list(LINE_UP)
    lines = (paths.COMPARE / "table.csv").read_text().splitlines()
    assert len(lines) == len(LINE_UP) + 1
    assert lines[0].startswith(
        "classifier,year,trained_on,test_images,errors,accuracy,fit_seconds,us_per_image,bare_shifted_2"
    )
    assert (paths.COMPARE / "robustness.png").stat().st_size > 10_000
    assert f"table: {len(LINE_UP)} classifiers; {next(iter(LINE_UP))} reads best (99.00%)" in capsys.readouterr().out
