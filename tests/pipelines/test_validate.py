"""Bad data are refused, and the rows are named."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pipelines import ingest
from pipelines.artefacts import Source
from pipelines.validate import ValidateParams, findings
from tests.conftest import REPOSITORY

GOOD = ingest.digits()
PARAMS = ValidateParams.load(REPOSITORY / "params.yaml")


def changed(array, rows, value):
    copy = array.copy()
    copy[rows] = value
    return copy


def problems(source):
    return [(finding.check, finding.message) for finding in findings(source, PARAMS)]


def test_the_projects_own_data_passes():
    assert problems(GOOD) == []


def test_mnist_passes(shared_mnist):
    assert problems(ingest.mnist(shared_mnist)) == []


@pytest.mark.parametrize(
    ("source", "check", "message"),
    [
        (
            replace(GOOD, images=GOOD.images.reshape(-1, 64)),
            "shape",
            "images have shape (1797, 64), expected n x height x width",
        ),
        (replace(GOOD, images=GOOD.images[:, :4]), "shape", "images are 4x8, allowed are sides of 8 to 256"),
        (replace(GOOD, images=GOOD.images / 255), "dtype", "images are float64, expected uint8"),
        (replace(GOOD, labels=GOOD.labels.astype(float)), "dtype", "labels are float64, expected integers"),
        (
            replace(GOOD, labels=GOOD.labels[:-1]),
            "length",
            "1797 images, 1796 labels, 1797 test flags: expected equal numbers",
        ),
        (
            replace(GOOD, labels=GOOD.labels[:, None]),
            "shape",
            "labels have shape (1797, 1), test flags (1797,), expected n",
        ),
        (replace(GOOD, is_test=np.array(True)), "shape", "labels have shape (1797,), test flags (), expected n"),
        (replace(GOOD, labels=changed(GOOD.labels, [5, 9], 10)), "labels", "2 labels outside 0 to 9: rows 5, 9"),
        (
            replace(GOOD, images=changed(GOOD.images, 7, 3)),
            "range",
            "1 images with under 24 grey levels of contrast: rows 7",
        ),
        (
            replace(GOOD, labels=changed(GOOD.labels, GOOD.labels == 3, 8)),
            "classes",
            "class 3 has 0 images, at least 50 are needed",
        ),
        (
            replace(
                GOOD,
                images=changed(GOOD.images, np.flatnonzero(GOOD.labels == 1)[:30], GOOD.images[GOOD.labels == 1][0]),
            ),
            "duplicates",
            "29 images (1.6%) repeat another one, allowed are 1.0%: rows 11, 21, 42",
        ),
        (
            replace(GOOD, images=changed(GOOD.images, 1, GOOD.images[0])),
            "labels",
            "1 images that repeat another one with a different label: rows 1",
        ),
    ],
)
def test_bad_data_is_refused_with_the_rows(source, check, message):
    assert any(found == check and text.startswith(message) for found, text in problems(source)), problems(source)


def test_pictures_of_different_sizes_are_judged_one_by_one_and_named_by_their_files():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (10 + row % 3, 12), np.uint8) for row in range(120)]
    files = tuple(f"letters/{'AB'[row % 2]}/{row}.png" for row in range(120))
    labels = np.tile([0, 1], 60).astype(np.uint8)
    source = Source(images, labels, ("A", "B"), np.zeros(120, np.bool_), {}, files)
    assert problems(source) == []
    few = replace(source, labels=np.repeat([0, 1], [71, 49]).astype(np.uint8))
    assert problems(few) == [("classes", "class B has 49 images, at least 50 are needed")]
    blank = replace(source, images=[*images[:5], images[5] // 255, *images[6:]])
    assert problems(blank) == [("range", "1 images with under 24 grey levels of contrast: letters/B/5.png")]
    twice = replace(source, images=[*images[:119], images[2]])
    assert ("labels", "1 images that repeat another one with a different label: letters/B/119.png") in problems(twice)
    small = replace(source, images=[*images[:4], images[4][:7], *images[5:]])
    assert problems(small) == [("shape", "1 images of another size, allowed are sides of 8 to 256: letters/A/4.png")]


def test_no_images_at_all_are_refused():
    empty = Source(GOOD.images[:0], GOOD.labels[:0], GOOD.classes, GOOD.is_test[:0], {})
    assert [check for check, _ in problems(empty)] == ["classes"] * 10


def test_a_refusal_is_one_line_with_a_full_report(in_folder):
    bad = replace(GOOD, labels=changed(GOOD.labels, slice(0, 20), 77))
    (in_folder / "data").mkdir()
    bad.save(in_folder / "data" / "raw.npz")
    ran = subprocess.run([sys.executable, "-m", "pipelines.validate"], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr == (
        "validate: data/raw.npz is refused: 20 labels outside 0 to 9: rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …"
        " (report: out/validation.json)\n"
    )
    report = json.loads((in_folder / "out" / "validation.json").read_text())
    assert report["findings"][0]["rows"] == list(range(20))
