"""Decodes bytes to a picture. Here are all errors of pictures that cannot be read."""

import io
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
PngImagePlugin.MAX_TEXT_CHUNK = 2**16  # bytes of a PNG's comment, decompressed; comments are not used here
PngImagePlugin.MAX_TEXT_MEMORY = 2**20
_PNG: Final = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_IHDR: Final = struct.Struct(">IIBBBBB")
_CHUNK: Final = struct.Struct(">I4s")
_PLAIN: Final = frozenset({b"IHDR", b"IDAT", b"IEND", b"pHYs", b"tIME", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD"})
_PNG_MODES: Final = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}
MAX_PIXELS: Final = 25_000_000  # twice a 12-megapixel photo; a larger picture is a decompression bomb or a mistake
MAX_SIDE: Final = 32_767  # pixels; Pillow keeps a pointer to every row, 400 MB for 25,000,000 rows of one pixel
MAX_CHUNKS: Final = 64  # of a plain PNG
MAX_SCANS: Final = 64  # of a JPEG; progressive ones have about 10, and each scan is a pass over all pixels
MAX_TILES: Final = 4096  # or strips, of a TIFF
TILE: Final = 1024 * 1024  # pixels; a TIFF's tile may be larger only if the picture is
LARGE: Final = 4_000_000  # pixels; a larger picture is decoded at a fraction of its size. `canonical` reduces it anyway
REDUCED: Final = 2_000_000  # pixels that are left of a large picture that is not a JPEG
_WEBP_BYTES: Final = 16  # for a pixel: the decoder's canvas, the one before, and what Pillow copies of it, twice
STRIP: Final = 2**18  # pixels converted at a time, so that a conversion needs little memory beside the picture


class BadImage(ValueError):
    """The input cannot be read as a digit. `reason` is for machines, the message for people."""

    reason = "bad-image"


class NotAnImage(BadImage):
    """The bytes are not a picture in one of `FORMATS`. The API answers 415."""

    reason = "not-an-image"


class BrokenImage(BadImage):
    """The bytes begin like a picture, but are truncated or inconsistent. The API answers 400."""

    reason = "broken-image"


class TooManyPixels(BadImage):
    """The image's header declares more pixels than the limit, or than fit into the memory. The API answers 413."""

    reason = "too-many-pixels"


class TooCostly(BadImage):
    """The image is built so that decoding it takes too much time or memory. The API answers 413."""

    reason = "too-costly"


class NoInk(BadImage):
    """Nothing stands out from the paper: blank, uniform, or too faint. The API answers 422."""

    reason = "no-ink"


_KINDS: Final[list[type[BadImage]]] = [BadImage, *BadImage.__subclasses__()]
ERRORS: Final = {kind.reason: kind for kind in _KINDS}


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture in `data` (its first frame), fully decoded. One of more than `LARGE` pixels is reduced.

    Raises `NotAnImage`, `BrokenImage`, `TooManyPixels` or `TooCostly`; `TooManyPixels` before any pixel is decoded.
    """
    return finish(begin(data, max_pixels=max_pixels))


def begin(data: bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int | None = None) -> Image.Image:
    """The picture in `data` with its true size, for `finish`. Raises as `identify` does."""
    plain = plain_png(data, max_pixels=min(max_pixels, LARGE))
    return plain or identify(data, max_pixels=max_pixels, max_bytes=max_bytes)


def finish(image: Image.Image, *, max_bytes: int | None = None) -> Image.Image:
    """Decodes the pixels that `begin` left, and reduces a large picture.

    Raises `BrokenImage`, or `TooManyPixels` where that would take more than `max_bytes` of memory.
    """
    pixels = image.width * image.height
    _check_memory(pixels, footprint(image, _drafted(image)), max_bytes, image.format)
    return _reduced(load(image))


def _check_memory(pixels: int, taken: int, max_bytes: int | None, kind: str | None) -> None:
    if max_bytes is not None and taken > max_bytes:
        raise TooManyPixels(
            f"{pixels:,} pixels of this {kind} take {taken / 1e6:.0f} MB to decode; "
            f"{max_bytes / 1e6:.0f} MB are there, for {pixels * max_bytes // taken:,} pixels"
        )


def plain_png(data: bytes, *, max_pixels: int) -> Image.Image | None:
    """The picture in `data` if it is a plain PNG, in a third of the time that Pillow takes. Otherwise None.

    Plain means complete, 8 bits a channel, not interlaced, no side above `MAX_SIDE`, and with at most `MAX_CHUNKS`
    chunks, all of `_PLAIN`. All other data is for `identify` and `load`. The pixels are decoded by Pillow here, too.
    """
    if data[:16] != _PNG:
        return None
    width, height, bits, colour, *rest = _IHDR.unpack_from(data.ljust(29), 16)
    mode = _PNG_MODES.get(colour)
    if bits != 8 or mode is None or any(rest) or not 0 < width * height <= max_pixels or max(width, height) > MAX_SIDE:
        return None
    pixels = _plain_data(data)
    if pixels is None:
        return None
    try:
        return Image.frombytes(mode, (width, height), pixels, "zip", mode)
    except Exception:  # noqa: BLE001 - `load` reports what is wrong
        return None


def _plain_data(data: bytes) -> bytes | None:
    """The compressed pixels of a PNG. None where it is incomplete, or has other or more chunks than a plain one."""
    at = 8
    parts: list[bytes] = []
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            return None
        size, chunk = _CHUNK.unpack_from(data, at)
        end = at + 8 + size
        if chunk not in _PLAIN or int.from_bytes(data[end : end + 4]) != zlib.crc32(data[at + 4 : end]):
            return None
        if chunk == b"IEND":
            return b"".join(parts)
        if chunk == b"IDAT":
            parts.append(data[at + 8 : end])
        at = end + 4
    return None


def identify(data: bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int | None = None) -> Image.Image:
    """Opens the picture in `data`: reads the header only, and checks format, size and structure.

    Raises `NotAnImage`, `BrokenImage`, `TooManyPixels` or `TooCostly`. A header may take seconds to read: the service
    does it in a process of its own (`service.decoding`). `max_bytes` bounds the memory of a WebP, whose decoder takes
    it while it reads the header.
    """
    claimed = _webp_pixels(data)
    _check_memory(claimed, claimed * _WEBP_BYTES, max_bytes, "WEBP")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise NotAnImage(f"not an image in a format read here: {', '.join(FORMATS)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(str(error)) from None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow's plugins raise almost anything on a bad header
        raise BrokenImage(f"the image's header is broken: {error}") from None
    width, height = image.size
    if width * height > max_pixels:
        raise TooManyPixels(f"{width}x{height} is {width * height:,} pixels; at most {max_pixels:,} are decoded")
    if max(width, height) > MAX_SIDE:
        raise TooManyPixels(f"{width}x{height}: a side has at most {MAX_SIDE:,} pixels")
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        _check_scans(data)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiles(image)
    return image


def _webp_pixels(data: bytes) -> int:
    """The pixels that the header of a WebP claims; 0 for everything else."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return 0
    kind = data[12:16]
    if kind == b"VP8X":
        return (int.from_bytes(data[24:27], "little") + 1) * (int.from_bytes(data[27:30], "little") + 1)
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return ((bits & 0x3FFF) + 1) * ((bits >> 14 & 0x3FFF) + 1)
    width, height = struct.unpack_from("<HH", data, 26)
    return int(width & 0x3FFF) * int(height & 0x3FFF)


def _check_scans(data: bytes) -> None:
    """Counts the markers that start a scan. Those of embedded thumbnails count, too: they are few."""
    scans = data.count(b"\xff\xda")
    if scans > MAX_SCANS:
        raise TooCostly(f"the JPEG has {scans:,} scans; at most {MAX_SCANS} are decoded")


def _check_tiles(image: TiffImagePlugin.TiffImageFile) -> None:
    tags = image.tag_v2
    for kind, offsets in (("strips", TiffImagePlugin.STRIPOFFSETS), ("tiles", TiffImagePlugin.TILEOFFSETS)):
        count = len(tags.get(offsets, ()))
        if count > MAX_TILES:
            raise TooCostly(f"the TIFF has {count:,} {kind}; at most {MAX_TILES:,} are decoded")
    width, height = (tags.get(tag, 0) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
    allowed = max(TILE, image.width * image.height)
    if width * height > allowed:
        raise TooManyPixels(
            f"a tile has {width}x{height} pixels, the picture {image.width}x{image.height}; "
            f"at most {allowed:,} are decoded"
        )


def _drafted(image: Image.Image) -> int:
    """Lets libjpeg decode a large JPEG at a half, a quarter or an eighth of its size: the divisor, or 1."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return 1
    for divisor in (1, 2, 4, 8):
        if image.width * image.height <= LARGE * divisor**2 or divisor == 8:
            break
    width = image.width
    if divisor > 1:
        image.draft(None, (image.width // divisor, image.height // divisor))
    return round(width / image.width)


def footprint(image: Image.Image, divisor: int = 1) -> int:
    """The bytes that `load` and `canonical` take for `image`, whose header was read, at most.

    `divisor` is what libjpeg divided its sides by, so that its original size is known.
    """
    pixels = image.width * image.height
    decoded = pixels * _bytes_per_pixel(image.mode)
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        if "progressive" in image.info:  # libjpeg keeps 2 bytes for each coefficient until the last scan
            most = max(across * down for _, across, down, _ in image.layer)
            samples = sum(across * down for _, across, down, _ in image.layer) / most
            decoded += round(2 * samples * pixels * divisor**2)
    elif image.format == "WEBP":
        decoded = pixels * _WEBP_BYTES
    elif isinstance(image, TiffImagePlugin.TiffImageFile):
        decoded += _tile_bytes(image)
    return decoded


def _tile_bytes(image: TiffImagePlugin.TiffImageFile) -> int:
    """The bytes of one tile or strip, which libtiff holds decoded."""
    tags = image.tag_v2
    rows = min(tags.get(TiffImagePlugin.ROWSPERSTRIP, image.height), image.height)
    pixels = max(image.width * rows, tags.get(TiffImagePlugin.TILEWIDTH, 0) * tags.get(TiffImagePlugin.TILELENGTH, 0))
    return int(pixels * sum(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) // 8)


def _bytes_per_pixel(mode: str) -> int:
    """In Pillow's memory."""
    return 1 if mode in ("1", "L", "P") else 2 if mode.startswith("I;16") else 4


def load(image: Image.Image) -> Image.Image:
    """Decodes the pixels of `image`. Raises `BrokenImage`."""
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow's plugins raise almost anything on bad data
        raise BrokenImage(f"the {image.format} image is broken: {error}") from None
    return image


def _reduced(image: Image.Image) -> Image.Image:
    """`image`; one of more than `LARGE` pixels is box-filtered by a whole factor to at most `REDUCED`.

    Strip by strip, so that this takes little memory beside the image. The result keeps the orientation, and what was
    transparent. A palette becomes colours.
    """
    pixels = image.width * image.height
    if pixels <= LARGE:
        return image
    factor = math.isqrt(-(-pixels // REDUCED) - 1) + 1
    parts = ((top, _averaged(strip, factor)) for top, strip in strips(image, factor))
    _, first = next(parts)
    small = Image.new(first.mode, (-(-image.width // factor), -(-image.height // factor)))
    small.info = first.info
    small.paste(first, (0, 0))
    for top, part in parts:
        small.paste(part, (0, top // factor))
    if image.format == "TIFF":  # its orientation is a tag of the file
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = _orientation(image)
        small.info["exif"] = exif.tobytes()
    return small


def _averaged(strip: Image.Image, factor: int) -> Image.Image:
    mode = strip.mode
    if mode.startswith("I;16"):  # Pillow averages no 16 bits
        return strip.convert("I").reduce(factor).convert("I;16")
    if strip.has_transparency_data:
        return strip.convert("RGBA").reduce(factor)
    if mode in ("1", "P"):
        return strip.convert("L" if mode == "1" else "RGB").reduce(factor)
    return strip.reduce(factor)


def _orientation(image: Image.Image) -> int:
    """As EXIF counts it; 1, upright, where the file's is broken."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - Pillow's reader raises almost anything on broken EXIF
        return 1


def strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """The image in strips of about `STRIP` pixels, each with its first row, which `factor` divides."""
    rows = max(1, STRIP // (image.width * factor)) * factor
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))
