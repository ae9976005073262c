"""One preprocessing contract: whatever the canvas, the network sees the same digit."""

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.canonical import CENTRE, LONG_SIDE, SIDE, VERSION, canonical, grey
from model.images import BadImage, NoInk
from model.synthetic import draw
from tests.conftest import REPOSITORY

DIGIT = np.rint(draw(5, size=40, pen=0.1, canvas=(60, 60)) * 255).astype(np.uint8)


def box(pixels):
    rows, columns = np.flatnonzero((pixels > 32).any(1)), np.flatnonzero((pixels > 32).any(0))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


@pytest.mark.parametrize("digit", range(10))
def test_the_digit_fills_twenty_pixels_around_the_centre(digit):
    pixels = canonical(np.rint(draw(digit, size=70, pen=0.1, canvas=(120, 100)) * 255).astype(np.uint8))
    mass = pixels / pixels.sum()
    assert pixels.shape == (SIDE, SIDE)
    assert pixels.dtype == np.uint8
    assert pixels.max() == 255
    assert max(box(pixels)) in (LONG_SIDE - 1, LONG_SIDE)
    assert abs((mass.sum(1) @ np.arange(SIDE)) - CENTRE) <= 0.51
    assert abs((mass.sum(0) @ np.arange(SIDE)) - CENTRE) <= 0.51


@settings(max_examples=50, deadline=None)
@given(top=st.integers(0, 90), left=st.integers(0, 90), bottom=st.integers(0, 90), right=st.integers(0, 90))
def test_neither_place_nor_padding_matters(top, left, bottom, right):
    moved = np.pad(DIGIT, ((top, bottom), (left, right)))
    assert np.array_equal(canonical(moved), canonical(DIGIT))


@settings(max_examples=20, deadline=None)
@given(paper=st.integers(0, 255), ink=st.integers(0, 255))
def test_neither_polarity_nor_contrast_matters(paper, ink):
    share = DIGIT / np.float64(255)
    image = np.rint(paper + (ink - paper) * share).astype(np.uint8)
    if abs(ink - paper) < 24:
        with pytest.raises(NoInk):
            canonical(image)
    else:
        assert np.abs(canonical(image).astype(int) - canonical(DIGIT)).max() <= 13  # a level of the faintest is 255/24


@pytest.mark.parametrize("times", [2, 3, 7])
def test_integer_scale_hardly_matters(times):
    larger = DIGIT.repeat(times, axis=0).repeat(times, axis=1)
    assert np.abs(canonical(larger).astype(int) - canonical(DIGIT)).mean() < 2.5


def test_colour_on_paper_is_read_as_ink():
    share = draw(3, size=60, pen=0.08, canvas=(90, 90))[..., None]
    photo = np.array([240, 235, 220]) * (1 - share) + np.array([30, 40, 120]) * share
    seen = canonical(Image.fromarray(photo.astype(np.uint8)))
    plain = canonical(np.rint(share[..., 0] * 255).astype(np.uint8))
    assert np.abs(seen.astype(int) - plain).mean() < 2


@pytest.mark.parametrize("ink", [0, 255], ids=["black ink", "white ink"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_a_transparent_canvas_is_paper(ink, mode):
    layer = Image.new("LA", DIGIT.shape[::-1], (ink, 0))
    layer.putalpha(Image.fromarray(DIGIT))
    image = layer.convert("RGBA")
    if mode == "PA":
        image = image.quantize(64, method=Image.Quantize.FASTOCTREE)
    elif mode == "LA":
        image = layer
    assert np.abs(canonical(image).astype(int) - canonical(DIGIT)).mean() < 2


def test_paper_with_transparent_corners_is_still_paper():
    page = Image.fromarray(255 - DIGIT).convert("RGBA")
    alpha = np.full(DIGIT.shape, 255, np.uint8)
    alpha[:6, :6] = alpha[-6:, -6:] = 0
    page.putalpha(Image.fromarray(alpha))
    assert max(box(canonical(page))) <= LONG_SIDE
    assert np.abs(canonical(page).astype(int) - canonical(DIGIT)).mean() < 2


def test_a_photo_is_turned_the_way_its_exif_says():
    lying = Image.fromarray(np.rot90(DIGIT))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    file = io.BytesIO()
    lying.save(file, "PNG", exif=exif)
    assert np.array_equal(canonical(Image.open(file)), canonical(DIGIT))


def test_sixteen_bits_are_not_clipped():
    deep = Image.fromarray(DIGIT.astype(np.uint16) * 257)
    assert np.array_equal(canonical(deep), canonical(DIGIT))


def test_sixteen_bits_of_blank_paper_have_no_ink():
    page = np.random.default_rng(0).integers(29_998, 30_002, (60, 60)).astype(np.uint16)
    with pytest.raises(NoInk):
        canonical(Image.fromarray(page))


@pytest.mark.parametrize(("low", "high"), [(-5.0, 5.0), (0.0, 1e9), (float("nan"), 1.0)])
def test_numbers_that_are_no_grey_levels_are_refused(low, high):
    image = np.full((30, 30), low, np.float32)
    image[10:20, 12:18] = high
    with pytest.raises(BadImage, match="pixels run from"):
        canonical(Image.fromarray(image))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12"])
def test_broken_exif_is_passed_over(kind, exif):
    file = io.BytesIO()
    Image.fromarray(DIGIT).save(file, kind, exif=exif)
    assert canonical(Image.open(file)).shape == (SIDE, SIDE)


def test_the_version_is_raised_when_the_samples_come_out_differently():
    """If this fails, `canonical` has changed: raise its VERSION, and enter what the samples hash to now."""
    seen = b"".join(canonical(Image.open(file)).tobytes() for file in sorted((REPOSITORY / "samples").glob("*.png")))
    assert {VERSION: hashlib.sha256(seen).hexdigest()} == {
        "1": "1e2337f9c2083c032fdcd60945efd893582bf4488cf00c20a4e24b50ff8ce607"
    }


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "I", "F"])
def test_every_mode_is_read(mode):
    image = (
        Image.fromarray(DIGIT).convert("RGB").convert(mode)
        if mode not in ("I", "F")
        else Image.fromarray(DIGIT).convert(mode)
    )
    assert np.abs(canonical(image).astype(int) - canonical(DIGIT)).mean() < 12


@pytest.mark.parametrize(
    "image",
    [np.zeros((28, 28), np.uint8), np.full((300, 200), 255, np.uint8), np.full((9, 9), 130, np.uint8)],
    ids=["black", "white", "grey"],
)
def test_a_blank_page_has_no_ink(image):
    with pytest.raises(
        NoInk, match="nothing stands out from the paper: the strongest mark differs by 0 of 255 grey levels"
    ):
        canonical(image)


def test_a_grainy_blank_page_has_no_ink():
    page = np.random.default_rng(0).normal(200, 2, (200, 200)).astype(np.uint8)
    with pytest.raises(NoInk):
        canonical(page)


def test_a_wholly_transparent_image_has_no_ink():
    with pytest.raises(NoInk, match="wholly transparent"):
        canonical(Image.new("RGBA", (30, 30)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1)])
def test_a_line_of_pixels_holds_no_digit(shape):
    with pytest.raises(NoInk, match="at least 2x2 are needed"):
        canonical(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(2, 2), (2, 300), (8, 8), (4000, 3000)])
def test_any_size_is_read(shape):
    image = np.zeros(shape, np.uint8)
    image[shape[0] // 2 :, shape[1] // 2] = 255
    assert canonical(image).shape == (SIDE, SIDE)


def test_grey_keeps_grey_levels():
    assert np.array_equal(grey(Image.fromarray(DIGIT)), DIGIT)


def test_mnist_is_left_almost_as_it_is(shared_mnist):
    from pipelines.ingest import idx

    images = idx(shared_mnist / "t10k-images-idx3-ubyte.gz")[:2000]
    difference = np.mean([np.abs(canonical(image).astype(int) - image).mean() for image in images])
    assert difference < 0.2
