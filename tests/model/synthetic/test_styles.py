"""Every style of every digit is well-formed."""

import pytest

from model.synthetic.styles import SIGNS, STYLES

EVERY = [(digit, style) for digit, styles in STYLES.items() for style in styles]


def test_every_digit_has_styles_with_different_names():
    assert sorted(STYLES) == list(range(10))
    for styles in (*STYLES.values(), SIGNS):
        assert len({style.name for style in styles}) == len(styles)


@pytest.mark.parametrize(("digit", "style"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_a_style_can_be_parsed_and_stays_in_its_box(digit, style):
    points = [tuple(map(float, word.rstrip("!").split(","))) for word in style.strokes.split() if word != "|"]
    assert all(0 <= x <= 100 and 0 <= y <= 100 for x, y in points)
    assert style.weight > 0
    assert 0.5 <= style.pen <= 2
