"""One preprocessing contract: on any canvas, the network sees the same digit."""

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.camera import PHOTOS, on_page
from model.canonical import CENTRE, LONG_SIDE, SIDE, VERSION, canonical, canonical_batch, grey
from model.canonical.images import BadImage, NoInk
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


@settings(max_examples=50)
@given(top=st.integers(0, 90), left=st.integers(0, 90), bottom=st.integers(0, 90), right=st.integers(0, 90))
def test_neither_place_nor_padding_matters(top, left, bottom, right):
    moved = np.pad(DIGIT, ((top, bottom), (left, right)))
    assert np.array_equal(canonical(moved), canonical(DIGIT))


@settings(max_examples=20)
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


def test_a_photo_is_turned_as_its_exif_says():
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
def test_numbers_that_are_not_grey_levels_are_refused(low, high):
    image = np.full((30, 30), low, np.float32)
    image[10:20, 12:18] = high
    with pytest.raises(BadImage, match="pixels run from"):
        canonical(Image.fromarray(image))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12"])
def test_broken_exif_is_ignored(kind, exif):
    file = io.BytesIO()
    Image.fromarray(DIGIT).save(file, kind, exif=exif)
    assert canonical(Image.open(file)).shape == (SIDE, SIDE)


def test_a_change_of_the_samples_pixels_needs_a_new_version():
    """If this fails, `canonical` has changed: increase its VERSION and enter the new hash of the samples."""
    seen = b"".join(canonical(Image.open(file)).tobytes() for file in sorted((REPOSITORY / "samples").glob("*.png")))
    assert {VERSION: hashlib.sha256(seen).hexdigest()} == {
        "2": "de6ee77ab6eeeb32d1e61a5a406d8974057fefd59974b5f08922907d79fa25b0"
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


def test_a_completely_transparent_image_has_no_ink():
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


def moved_at_best(seen, clean):
    """The correlation of two canonical images; one may be moved by up to a pixel each way."""
    moves = [np.roll(seen, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return max(np.corrcoef(moved.ravel(), clean.ravel())[0, 1] for moved in moves)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("digit", range(10))
def test_a_photo_is_read_as_the_clean_digit(name, digit):
    rng = np.random.default_rng(digit)
    drawn = np.rint(draw(digit, size=20, pen=0.1, canvas=(28, 28)) * 255).astype(np.uint8)
    share = on_page(drawn, rng.uniform(3, 6), (240, 320), (rng.uniform(0, 1), rng.uniform(0, 1)))
    clean = canonical(np.rint(share * 255).astype(np.uint8))
    assert moved_at_best(canonical(PHOTOS[name](share, rng)), clean) > 0.85


@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_digit_in_a_corner_of_a_photo_is_read(corner):
    drawn = np.rint(draw(5, size=20, pen=0.1, canvas=(22, 22)) * 255).astype(np.uint8)
    share = on_page(drawn, 4, (240, 320), corner)
    seen = canonical(PHOTOS["uneven light"](share, np.random.default_rng(0)))
    assert moved_at_best(seen, canonical(np.rint(share * 255).astype(np.uint8))) > 0.85


@pytest.mark.parametrize("at", [(0.1, 0.1), (0.9, 0.4), (0.5, 0.95)])
def test_a_small_digit_in_a_photo_of_twelve_megapixels_is_read(at):
    """The digit has 3 % of the width."""
    drawn = np.rint(draw(3, size=20, pen=0.1, canvas=(28, 28)) * 255).astype(np.uint8)
    share = on_page(drawn, 6, (3000, 4000), at)
    light = np.linspace(0.6, 1, 4000)
    grain = np.random.default_rng(0).normal(0, 4, share.shape)
    photo = np.rint((230 * (1 - share) + 50 * share) * light + grain).clip(0, 255).astype(np.uint8)
    assert moved_at_best(canonical(photo), canonical(drawn)) > 0.85


def test_the_bar_of_a_five_is_kept_and_specks_are_not():
    five = np.zeros((60, 60), np.uint8)
    five[10:13, 25:42] = 255  # the bar, not touching
    five[16:30, 22:25] = five[28:31, 22:40] = five[28:46, 39:42] = five[44:47, 22:42] = 255
    dusty = five.copy()
    dusty[3:5, 50:52] = dusty[55, 8] = dusty[30:32, 55:57] = 255
    assert np.array_equal(canonical(dusty), canonical(five))
    assert max(box(canonical(five))) == LONG_SIDE
    assert canonical(five)[:8].any()


@pytest.mark.parametrize("quality", [40, 75, 95])
def test_jpeg_noise_is_not_ink(quality):
    blank, written = io.BytesIO(), io.BytesIO()
    grain = np.random.default_rng(0).normal(0, 1.5, DIGIT.shape)
    Image.fromarray((200 + grain).astype(np.uint8)).save(blank, "JPEG", quality=quality)
    Image.fromarray(255 - DIGIT).save(written, "JPEG", quality=quality)
    with pytest.raises(NoInk):
        canonical(Image.open(blank))
    assert moved_at_best(canonical(Image.open(written)), canonical(DIGIT)) > 0.95


@pytest.mark.parametrize("shape", [(28, 28), (60, 80), (240, 320), (900, 1200)])
@pytest.mark.parametrize("kind", ["any level", "black or white", "two pixels wide"])
def test_noise_is_refused(shape, kind):
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, shape)
    if kind == "black or white":
        noise = (noise > 127) * 255
    elif kind == "two pixels wide":
        noise = noise[: shape[0] // 2, : shape[1] // 2].repeat(2, 0).repeat(2, 1)
    with pytest.raises(NoInk):
        canonical(noise.astype(np.uint8))


pictures = st.tuples(
    st.sampled_from([(28, 28), (44, 44), (60, 52), (16, 16), (8, 8), (200, 150), (500, 410)]),
    st.sampled_from(["digit", "dark", "grain", "specks", "noise", "blank"]),
    st.integers(0, 9),
    st.integers(0, 1000),
)


def picture(shape, kind, digit, seed):
    rng = np.random.default_rng(seed)
    size = min(shape) * rng.uniform(0.4, 0.8)
    share = draw(digit, size=size, pen=0.12, canvas=shape[::-1])
    if kind == "specks":
        share[rng.integers(0, shape[0], 5), rng.integers(0, shape[1], 5)] = 1
    levels = {"noise": rng.uniform(0, 255, shape), "blank": np.full(shape, 90.0)}.get(kind, share * 230 + 10)
    if kind in ("dark", "grain"):
        levels = 240 - share * 180 + (rng.normal(0, 4, shape) if kind == "grain" else 0)
    return np.rint(levels).clip(0, 255).astype(np.uint8)


@settings(max_examples=30)
@given(st.lists(pictures, max_size=12))
def test_a_batch_gives_each_image_the_same_bits_as_alone(asked):
    images = [picture(*each) for each in asked]
    before = [image.copy() for image in images]
    pixels, refused = canonical_batch(images)
    assert pixels.shape == (len(images), SIDE, SIDE)
    for i, image in enumerate(images):
        assert np.array_equal(image, before[i])
        if i in refused:
            with pytest.raises(NoInk) as error:
                canonical(image)
            assert str(error.value) == str(refused[i])
            assert not pixels[i].any()
        else:
            assert np.array_equal(pixels[i], canonical(image))


def test_a_batch_names_the_images_it_refuses():
    pixels, refused = canonical_batch([DIGIT, np.zeros((28, 28), np.uint8), Image.new("RGBA", (9, 9)), DIGIT])
    assert {i: str(error) for i, error in refused.items()} == {
        1: "nothing stands out from the paper: the strongest mark differs by 0 of 255 grey levels, at least 24 are"
        " needed",
        2: "the image is wholly transparent",
    }
    assert np.array_equal(pixels[0], pixels[3])


def test_an_empty_batch_is_empty():
    pixels, refused = canonical_batch([])
    assert pixels.shape == (0, SIDE, SIDE)
    assert not refused


@settings(max_examples=20)
@given(
    paper=st.integers(0, 255),
    top=st.integers(0, 60),
    left=st.integers(0, 60),
    bottom=st.integers(0, 60),
    right=st.integers(0, 60),
)
def test_padding_by_more_of_the_same_paper_changes_nothing(paper, top, left, bottom, right):
    ink = 255 if paper < 128 else 0
    image = np.rint(paper + (ink - paper) * (DIGIT / np.float64(255))).astype(np.uint8)
    padded = np.pad(image, ((top, bottom), (left, right)), constant_values=paper)
    assert np.array_equal(canonical(padded), canonical(image))


def test_mnist_hardly_changes(shared_mnist):
    from pipelines.ingest import idx

    images = idx(shared_mnist / "train-images-idx3-ubyte.gz")[:2000]
    pixels, refused = canonical_batch(images)
    difference = np.abs(pixels.astype(int) - images).mean(axis=(1, 2))
    assert not refused
    assert difference.mean() < 0.2
    assert (difference > 5).mean() < 0.02  # moved by a pixel, or without its specks (3 in 1,000)


def test_no_shift_of_mnist_on_a_larger_canvas_changes_anything(shared_mnist):
    from pipelines.ingest import idx

    images = idx(shared_mnist / "train-images-idx3-ubyte.gz")[:300]
    middle, _ = canonical_batch(np.pad(images, ((0, 0), (8, 8), (8, 8))))
    for down, across in [(0, 0), (16, 16), (0, 16), (3, 9), (16, 5)]:
        moved = np.pad(images, ((0, 0), (down, 16 - down), (across, 16 - across)))
        assert np.array_equal(canonical_batch(moved)[0], middle)


@pytest.mark.parametrize("digit", [0, 2, 3, 5, 8])
@pytest.mark.parametrize("lit", [False, True], ids=["clean", "photo"])
def test_a_digit_cut_out_at_its_edges_is_read(digit, lit):
    share = draw(digit, size=100, pen=0.14, canvas=(160, 160))
    rows, columns = np.flatnonzero((share > 0.5).any(1)), np.flatnonzero((share > 0.5).any(0))
    cut = share[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    page = 235 - 190 * cut
    if lit:
        page = page * np.linspace(0.7, 1, cut.shape[1]) + np.random.default_rng(0).normal(0, 3, cut.shape)
    seen = canonical(np.rint(page).clip(0, 255).astype(np.uint8))
    assert moved_at_best(seen, canonical(np.rint(share * 255).astype(np.uint8))) > 0.85


def test_a_page_in_a_black_frame_is_not_the_ink():
    page = np.pad(255 - DIGIT, ((0, 0), (40, 40)))
    assert moved_at_best(canonical(page), canonical(DIGIT)) > 0.95
