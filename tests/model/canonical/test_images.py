"""Bytes are decoded to a picture, or refused with one reason."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.canonical.images import FORMATS, BrokenImage, NotAnImage, TooManyPixels, decode, plain_png

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)


def encoded(kind, pixels=NOISE):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_decoded(kind):
    assert decode(encoded(kind)).size == (64, 64)


@pytest.mark.parametrize("data", [b"", b"not an image", b"%PDF-1.7 ...", encoded("PPM"), b"<svg/>"])
def test_other_bytes_are_not_an_image(data):
    with pytest.raises(NotAnImage, match="not an image in a format read here: PNG, JPEG"):
        decode(data)


@pytest.mark.parametrize("kind", FORMATS)
def test_half_an_image_is_broken(kind):
    data = encoded(kind)
    with pytest.raises((BrokenImage, NotAnImage)):
        decode(data[: len(data) // 2])


def test_too_many_pixels_are_refused_before_decoding():
    bomb = encoded("PNG", np.zeros((3000, 3000), np.uint8))
    with pytest.raises(TooManyPixels, match="3000x3000 is 9,000,000 pixels; at most 1,000,000 are decoded"):
        decode(bomb, max_pixels=1_000_000)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_bomb_beyond_pillows_own_limit_is_refused_too(side):
    header = encoded("PNG")
    claim = b"IHDR" + side.to_bytes(4, "big") * 2 + header[24:29]
    huge = header[:12] + claim + zlib.crc32(claim).to_bytes(4, "big") + header[33:]
    with pytest.raises(TooManyPixels):
        decode(huge)


@settings(max_examples=100)
@given(
    mode=st.sampled_from(["L", "RGB", "LA", "RGBA", "P", "1", "I;16"]),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    compress_level=st.integers(0, 9),
)
def test_both_ways_of_opening_a_png_give_the_same_pixels(mode, width, height, seed, compress_level):
    pixels = np.random.default_rng(seed).integers(256, size=(height, width, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., :2].copy().view(np.uint16)[..., 0])
    else:
        image = Image.fromarray(pixels).convert(mode)
    data = saved(image, compress_level=compress_level)
    plain = plain_png(data, max_pixels=1600)
    assert (plain is not None) == (mode in ("L", "RGB", "LA", "RGBA"))
    decoded, expected = decode(data), Image.open(io.BytesIO(data))
    assert (decoded.mode, decoded.size, decoded.tobytes()) == (expected.mode, expected.size, expected.tobytes())


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


GREY = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
TURNED = Image.Exif()
TURNED[0x0112] = 6


@pytest.mark.parametrize(
    "data",
    [
        saved(GREY)[:-1],
        saved(GREY)[:20],
        saved(GREY)[:8],
        saved(GREY).replace(b"IDAT", b"IDAU"),
        saved(GREY)[:-20] + b"\0" * 20,
        saved(GREY, transparency=7),
        saved(GREY, exif=TURNED),
        b"",
        b"GIF89a",
    ],
)
def test_everything_but_a_plain_png_is_left_to_pillow(data):
    assert plain_png(data, max_pixels=1600) is None


def test_a_plain_png_that_is_too_large_is_left_to_pillow():
    assert plain_png(saved(GREY), max_pixels=63) is None
    assert plain_png(saved(GREY), max_pixels=64) is not None
