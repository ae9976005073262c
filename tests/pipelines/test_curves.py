"""Robustness curves can be written, read and drawn."""

import json

import pytest
from PIL import Image

from model.robustness import DISTORTIONS, VIEWS, Point
from pipelines.curves import COLUMNS, LINES, nested, picture, read, write
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

POINTS = [
    Point(name, view, severity, 0.9 - 0.01 * i)
    for name, distortion in DISTORTIONS.items()
    for i, severity in enumerate(sorted((distortion.none, *distortion.severities)))
    for view in VIEWS
]


def test_the_table_holds_every_point(tmp_path):
    curves = {"cnn": POINTS, "svm": POINTS[:4]}
    write(tmp_path / "robustness.csv", curves)
    assert read(tmp_path / "robustness.csv") == curves


def test_the_metrics_hold_every_point():
    accuracy = nested(POINTS)
    assert list(accuracy) == list(DISTORTIONS)
    assert accuracy["scale"]["bare"]["0.85"] == pytest.approx(0.88)
    assert sum(len(course) for views in accuracy.values() for course in views.values()) == len(POINTS)


def test_every_view_has_a_line_of_its_own():
    assert set(LINES) == set(VIEWS)
    assert len(set(LINES.values())) == len(VIEWS)


def test_the_picture_has_a_panel_for_each_distortion_and_a_line_for_each_curve(tmp_path):
    figure = picture({"cnn": POINTS, "svm": POINTS}, "Two classifiers")
    assert [axes.get_title() for axes in figure.axes] == list(DISTORTIONS)
    for axes, distortion in zip(figure.axes, DISTORTIONS.values(), strict=True):
        curves = [line for line in axes.lines if len(line.get_xdata()) == len(distortion.severities) + 1]
        assert len(curves) == 4
        assert axes.get_xlabel() == distortion.unit
    figure.savefig(tmp_path / "robustness.png", dpi=40)
    with Image.open(tmp_path / "robustness.png") as drawn:
        assert min(drawn.size) > 100


def test_the_template_of_dvc_shows_the_table():
    template = json.loads((REPOSITORY / ".dvc" / "plots" / "robustness.json").read_text())
    encoding = template["spec"]["encoding"]
    fields = {encoding[channel]["field"] for channel in ("color", "strokeDash")} | {
        template["facet"]["column"]["field"], *template["data"]["format"]["parse"],
    }  # fmt: skip
    assert fields == set(COLUMNS)
