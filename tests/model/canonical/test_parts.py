"""Connected parts, compared with a plain search, and which of them are specks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.canonical import parts
from model.canonical.images import NoInk
from pipelines import ingest


def scribble(height, width, seed, density):
    """Marks as dense as `density`, at least one."""
    rng = np.random.default_rng(seed)
    marks = rng.random((height, width)) < density
    marks[rng.integers(height), rng.integers(width)] = True
    return marks


scribbles = st.builds(
    scribble,
    st.integers(2, 40),
    st.integers(2, 40),
    st.integers(0, 10_000),
    st.sampled_from([0.02, 0.1, 0.3, 0.5, 0.9]),
)


def number_of(marks):
    return parts.packed(np.where(marks, np.uint8(parts.MARK), np.uint8(parts.MARK - 1))[None])[0]


def components(marks):
    """The (y, x) of each connected part, in the order of their first pixels: pixel by pixel, as one would on paper."""
    left = {(int(y), int(x)): None for y, x in np.argwhere(marks)}  # a dict keeps the order
    found = []
    while left:
        part = [next(iter(left))]
        del left[part[0]]
        for y, x in part:  # grows while it is read
            near = [(y + down, x + across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
            reached = [place for place in near if place in left]
            for place in reached:
                del left[place]
            part.extend(reached)
        found.append(part)
    return found


def count(marks):
    return len(components(marks))


@settings(max_examples=200)
@given(scribbles)
def test_one_part_agrees_with_a_plain_search(marks):
    assert parts.one_part(number_of(marks), *marks.shape) == (count(marks) == 1)


@settings(max_examples=50)
@given(scribbles)
def test_for_a_large_picture_true_is_certain(marks):
    wide = np.pad(marks, ((0, 0), (0, parts.SMALL)))
    if parts.one_part(number_of(wide), *wide.shape):
        assert count(marks) == 1


@settings(max_examples=200)
@given(scribbles)
def test_the_box_is_that_of_the_marks(marks):
    rows, columns = np.flatnonzero(marks.any(1)), np.flatnonzero(marks.any(0))
    assert parts.box(number_of(marks), *marks.shape) == (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)


@settings(max_examples=200)
@given(scribbles)
def test_marks_that_touch_opposite_sides_cross_the_frame(marks):
    across = (marks[0].any() and marks[-1].any()) or (marks[:, 0].any() and marks[:, -1].any())
    assert parts.crosses_frame(number_of(marks), *marks.shape) == across


def plain_specks(marks):
    """What `parts.specks` must return."""
    found = components(marks)
    boxes = []
    for part in found:
        rows, columns = zip(*part, strict=True)
        boxes.append((min(rows), min(columns), max(rows) + 1, max(columns) + 1))
    kept = parts._kept([len(part) for part in found], boxes, *marks.shape)
    specks = np.zeros_like(marks)
    for number, part in enumerate(found):
        for place in part:
            specks[place] = number not in kept
    return specks if specks.any() else None


def outcome(search, *args):
    try:
        return search(*args)
    except NoInk as error:
        return str(error)


@settings(max_examples=200)
@given(scribbles)
def test_flooding_and_labelling_find_the_specks_of_a_plain_search(marks):
    expected = outcome(plain_specks, marks)
    flooded = outcome(parts._flood_specks, number_of(marks), *marks.shape)
    labelled = outcome(parts._label_specks, marks)
    assert type(expected) is type(flooded) is type(labelled)
    assert np.array_equal(flooded, expected)
    assert np.array_equal(labelled, expected)


def test_on_mnist_both_ways_find_the_same_specks(shared_mnist):
    images = ingest.idx(shared_mnist / "train-images-idx3-ubyte.gz")[:5_000]
    several = [marks for marks in parts.packed(images) if not parts.one_part(marks, 28, 28)]
    assert len(several) > 100
    for marks in several:
        flooded = parts._flood_specks(marks, 28, 28)
        assert np.array_equal(flooded, parts._label_specks(parts._unpacked(marks, 28, 28)))


@pytest.mark.parametrize("times", [1, 5], ids=["flooded", "labelled"])
@pytest.mark.parametrize(
    ("rows", "columns", "kept"),
    [
        (slice(4, 6), slice(10, 24), True),  # the bar of a 5
        (slice(16, 17), slice(22, 23), True),  # a dot within the digit's box
        (slice(2, 3), slice(30, 31), False),  # a dot outside it
        (slice(30, 34), slice(1, 3), False),  # a smear far from it
        (slice(35, 36), slice(0, 40), False),  # a ruled line
    ],
    ids=["bar", "dot within", "dot", "smear", "line"],
)
def test_parts_of_a_digit_are_kept_and_specks_are_not(rows, columns, kept, times):
    digit = np.zeros((40, 40), np.bool_)
    digit[8:28, 8:11] = digit[26:28, 8:26] = digit[8:28, 24:26] = True
    other = np.zeros_like(digit)
    other[rows, columns] = True
    marks = (digit | other).repeat(times, 0).repeat(times, 1)
    specks = parts.specks(number_of(marks), *marks.shape)
    if kept:
        assert specks is None
    else:
        assert np.array_equal(specks, other.repeat(times, 0).repeat(times, 1))


def test_marks_all_over_are_no_digit():
    marks = np.zeros((60, 60), np.bool_)
    marks[5::10, 5::10] = True
    with pytest.raises(NoInk, match="marks are scattered over the picture, the largest has 3% of their pixels"):
        parts.specks(number_of(marks), 60, 60)
