"""The world of `make lifecycle`, and its picture. CI plays the whole story (.github/workflows/ci.yml)."""

import io

import numpy as np
import pytest
from PIL import Image

from journal.ids import golden_id
from model.synthetic.styles import STYLES, without
from samples.lifecycle import picture, world
from samples.lifecycle.__main__ import golden, replaced
from samples.lifecycle.picture import Event, Look
from samples.lifecycle.world import NEW, Asked, newcomers
from tests.bundles import make_bundle


def test_the_first_model_has_seen_none_of_the_newcomers_styles():
    usual = without(NEW)
    for digit, styles in newcomers().items():
        assert styles
        if digit in (0, 1, 7):
            assert not set(styles) & set(usual[digit])
            assert set(styles) | set(usual[digit]) == set(STYLES[digit])
        assert usual[digit]


def test_words_that_leave_a_digit_without_a_style_are_refused():
    with pytest.raises(ValueError, match="without a, e, o, i there is no style left for 0"):
        without(["a", "e", "o", "i"])


def test_equal_seeds_send_equal_pictures():
    first, again = ([*world._pictures(newcomers(), 40, np.random.default_rng(3))] for _ in range(2))
    assert first == again
    assert len(first) == 40
    for digit, data in first:
        assert 0 <= digit <= 9
        assert Image.open(io.BytesIO(data)).format == "PNG"


def test_every_sender_has_an_address_of_its_own():
    headers = {world._from(number)["X-Forwarded-For"] for number in range(0, 100_000, 7)}
    assert len(headers) == len(range(0, 100_000, 7))


def test_golden_pictures_are_known_by_their_ids_and_a_bundle_is_replaced_as_a_whole(tmp_path):
    first = make_bundle(tmp_path / "first")
    known = golden(tmp_path / "first")
    assert known == {golden_id(first.version, place): place for place in range(len(known))}
    make_bundle(tmp_path / "served")
    replaced(tmp_path / "first", tmp_path / "served")
    assert golden(tmp_path / "served") == known
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "served"]


def look(requests, model, **more):
    interval = {"mean": 0.9, "low": 0.85, "high": 0.95, "count": requests}
    summary = {
        "model_version": model,
        "estimated_accuracy": interval,
        "error": None,
        "evidence": {"class": 1.0, "ink": 99.0},
    }
    return Look(requests, summary | more)


def test_the_picture_is_drawn_where_numbers_are_unknown_and_models_change(tmp_path):
    asked = [Asked(number, 3, 3 if number % 7 else 4, "a" if number < 200 else "b") for number in range(400)]
    looks = [look(100, "a", error={"mean": None, "low": 0.0, "high": 1.0, "count": 0}), look(200, "a"), look(300, "b")]
    picture.draw(asked, looks, [Event(0, "served"), Event(10, "a change")], 0.01, tmp_path / "made" / "story.png")
    with Image.open(tmp_path / "made" / "story.png") as drawn:
        assert drawn.width > 800
        assert len(np.unique(np.asarray(drawn.convert("L")))) > 10


def test_curves_break_where_the_model_changes():
    looks = [look(100, "a"), look(200, "b")]
    assert np.isnan(picture._of_each(looks, lambda summary: summary["evidence"]["class"])).tolist() == [
        False,
        True,
        False,
    ]


def test_texts_above_the_picture_cover_no_other():
    events = [Event(0, "a long text, quite long"), Event(1, "another"), Event(300, "a third")]
    assert [row for row, _ in picture._rows(events, 400)] == [0, 1, 0]
