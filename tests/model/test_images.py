"""Bytes are pictures, or there is one reason why not."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from model.images import FORMATS, BrokenImage, NotAnImage, TooManyPixels, decode

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
