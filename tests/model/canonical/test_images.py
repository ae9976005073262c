"""Bytes are decoded to a picture, or refused with one reason."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench import bombs
from model.canonical import canonical, grey
from model.canonical.images import (
    FORMATS,
    BrokenImage,
    NotAnImage,
    TooCostly,
    TooManyPixels,
    begin,
    decode,
    finish,
    plain_png,
)

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


def test_a_png_of_many_chunks_or_one_long_side_is_left_to_pillow():
    data = saved(GREY)
    times = bombs.chunk(b"tIME", bytes(7))
    assert plain_png(data[:33] + times * 61 + data[33:], max_pixels=1600) is not None
    assert plain_png(data[:33] + times * 62 + data[33:], max_pixels=1600) is None
    assert plain_png(saved(Image.new("L", (1, 32_767))), max_pixels=100_000) is not None
    assert plain_png(saved(Image.new("L", (1, 32_768))), max_pixels=100_000) is None


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (bombs.scans(8, 8, 65), TooCostly, "the JPEG has 65 scans; at most 64 are decoded"),
        (bombs.strips(8, 4097), TooCostly, "the TIFF has 4,097 strips; at most 4,096 are decoded"),
        (
            bombs.one_tile(64, 32_768),
            TooManyPixels,
            "a tile has 32768x32768 pixels, the picture 64x64; at most 1,048,576 are decoded",
        ),
        (bombs.claiming(1, 32_768), TooManyPixels, "1x32768: a side has at most 32,767 pixels"),
    ],
    ids=["scans", "strips", "tile", "side"],
)
def test_what_is_out_of_proportion_is_refused_by_its_header(data, error, said):
    with pytest.raises(error) as raised:
        begin(data)
    assert str(raised.value) == said


@pytest.mark.parametrize("data", [bombs.scans(8, 8, 64), bombs.strips(8, 8), bombs.one_tile(64, 512)])
def test_what_is_in_proportion_is_decoded(data):
    assert decode(data).size in ((8, 8), (64, 64))


@pytest.mark.parametrize(
    ("data", "taken"),
    [
        (encoded("TIFF", np.zeros((3000, 1000), np.float32)), 24),  # in one strip
        (encoded("PNG", np.zeros((3000, 1000, 4), np.uint8)), 12),
        (encoded("PNG", np.zeros((3000, 1000), np.uint8)), 3),
        (bombs.scans(3000, 1000, 1), 9),  # progressive: 2 bytes for each coefficient
        (encoded("JPEG", np.zeros((3000, 1000, 3), np.uint8)), 12),
        (encoded("WEBP", np.zeros((3000, 1000, 3), np.uint8)), 48),
    ],
    ids=["tiff", "png in colours", "png in grey", "progressive jpeg", "jpeg", "webp"],
)
def test_what_does_not_fit_into_the_memory_is_refused_undecoded(data, taken):
    finish(begin(data, max_bytes=taken * 10**6), max_bytes=taken * 10**6)
    with pytest.raises(TooManyPixels, match=f"3,000,000 pixels of this .* take {taken} MB to decode"):
        finish(begin(data, max_bytes=taken * 10**6 - 1), max_bytes=taken * 10**6 - 1)


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"quality": 50, "exif": b"Exif\0\0"}])
def test_a_webp_is_refused_by_its_header_in_each_of_its_forms(options):
    file = io.BytesIO()
    Image.new("RGB", (300, 200)).save(file, "WEBP", **options)
    with pytest.raises(TooManyPixels, match="60,000 pixels of this WEBP take 1 MB to decode; 1 MB are there, for 59,"):
        begin(file.getvalue(), max_bytes=959_999)


PAGE = np.full((2600, 3200), 220, np.uint8)  # 8 megapixels
PAGE[500:2100, 1500:1700] = 30  # a 1
PAGE[500:700, 1200:1700] = 30  # with its flag: upright is not upside down


def rotated(image, kind, **options):
    exif = Image.Exif()
    exif[0x0112] = 3
    file = io.BytesIO()
    image.rotate(180).save(file, kind, exif=exif, **options)
    return file.getvalue()


LARGE = {
    "L": lambda: saved(Image.fromarray(PAGE)),
    "RGB": lambda: saved(Image.fromarray(PAGE).convert("RGB")),
    "P": lambda: saved(Image.fromarray(PAGE).convert("P")),
    "1": lambda: saved(Image.fromarray(PAGE).convert("1")),
    "LA": lambda: saved(Image.merge("LA", [Image.new("L", (3200, 2600)), Image.fromarray(255 - PAGE)])),
    "tRNS": lambda: saved(Image.fromarray(PAGE), transparency=220),
    "I;16": lambda: saved(Image.fromarray(PAGE.astype(np.uint16) * 257)),
    "F": lambda: encoded("TIFF", PAGE.astype(np.float32)),
    "CMYK": lambda: tiff(Image.fromarray(PAGE).convert("CMYK")),
    "JPEG": lambda: encoded("JPEG", PAGE),
    "GIF": lambda: encoded("GIF", PAGE),
    "turned PNG": lambda: rotated(Image.fromarray(PAGE), "PNG"),
    "turned JPEG": lambda: rotated(Image.fromarray(PAGE), "JPEG"),
    "turned TIFF": lambda: rotated(Image.fromarray(PAGE), "TIFF"),
}


def tiff(image):
    file = io.BytesIO()
    image.save(file, "TIFF")
    return file.getvalue()


@pytest.mark.parametrize("name", LARGE)
def test_a_large_picture_is_reduced_and_read_as_before(name):
    data = LARGE[name]()
    with Image.open(io.BytesIO(data)) as whole:
        expected = canonical(whole)
    reduced = decode(data)
    assert 500_000 < reduced.width * reduced.height <= 4_000_000
    assert np.abs(canonical(reduced).astype(int) - expected).mean() < 2  # of 255 levels


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_a_picture_that_is_not_large_is_decoded_bit_for_bit(mode):
    pixels = np.random.default_rng(0).integers(256, size=(2000, 2000, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., :2].copy().view(np.uint16)[..., 0])
    else:
        image = Image.fromarray(pixels).convert(mode)
    data = saved(image, compress_level=1)
    assert decode(data).tobytes() == image.tobytes()
    jpeg = encoded("JPEG")
    assert decode(jpeg).tobytes() == Image.open(io.BytesIO(jpeg)).tobytes()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "I", "F"])
def test_grey_levels_do_not_depend_on_the_strips(mode, monkeypatch):
    pixels = np.random.default_rng(0).integers(256, size=(90, 70, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("L" if mode in ("I;16", "I", "F") else mode)
    if mode in ("I;16", "I", "F"):
        image = image.convert("I").convert(mode)
    if mode == "P":
        image.info["transparency"] = bytes(range(256))
    whole = grey(image)
    for module in ("convert", "images"):
        monkeypatch.setattr(f"model.canonical.{module}.STRIP", 210)
    assert np.array_equal(grey(image), whole)
