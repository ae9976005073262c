"""Bombs: small files that claim to be huge, or that unpack to something huge. A service must refuse them undecoded.

`bench.abuse` and tests/service/edge/test_abuse.py use this module; it has no command of its own.
"""

import io
import struct
import zlib

from PIL import Image


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claiming(width: int, height: int, data: bytes = b"", *between: bytes) -> bytes:
    """A PNG whose header claims `width` x `height` pixels. The chunks `between` stand before the data."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(between) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def saved(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


WHITE = Image.new("RGB", (64, 64), "white")
ZEROS = zlib.compress(bytes(50_000_000), 9)
# Whole files of formats in which a header is enough.
BMP = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 10**9, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
GIF = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\2\1\0\0;"
WEBP = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<IB", 10, 0) + b"\0\0\0" + b"\xfe\x3f\0" * 2
WIDTH, WIDER = struct.pack("<HHIHH", 256, 4, 1, 64, 0), struct.pack("<HHII", 256, 4, 1, 60000)
BOMBS = {
    "png of 65535x65535": claiming(65535, 65535, ZEROS),
    "png of 2^31-1 by 2^31-1": claiming(2**31 - 1, 2**31 - 1),
    "png with 50 MB of text": claiming(8, 8, b"", chunk(b"zTXt", b"Comment\0\0" + ZEROS)),
    "png with 50 MB of profile": claiming(8, 8, b"", chunk(b"iCCP", b"icc\0\0" + ZEROS)),
    "png with 50 MB of international text": claiming(8, 8, b"", chunk(b"iTXt", b"k\0\1\0\0\0" + ZEROS)),
    "png with 60 comments of 1 MB": claiming(
        8, 8, b"", *[chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000), 9))] * 60
    ),
    "bmp of 60000x60000": BMP,
    "gif of 65535x65535": GIF,
    "tiff 60000 wide": saved(WHITE, "TIFF").replace(WIDTH, WIDER),
    "webp of 16383x16383": WEBP,
    "jpeg of 65500x65500": saved(WHITE, "JPEG").replace(b"\x00\x40\x00\x40", b"\xff\xdc\xff\xdc", 1),
}
