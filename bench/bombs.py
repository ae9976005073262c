"""Hostile pictures. `BOMBS` claim to be huge, or unpack to something huge: a service must refuse them undecoded.
`COSTLY` take seconds of processor time, or very much memory, for their size.

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


def tiff(tags: dict[int, tuple[int, ...]], data: bytes = b"") -> bytes:
    """A TIFF of these tags, whose values are 4 bytes each. The file begins with 8 bytes, then comes `data`."""
    place = 8 + len(data) + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, values = struct.pack("<I", place + len(values)), values + packed
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + packed
    return (
        b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4) + values
    )


def zstd_zeros(count: int) -> bytes:
    """`count` zeros, a multiple of 128 KiB, compressed by Zstandard: a block of 4 bytes is a run of so many."""
    runs = count >> 17
    block = (1 << 17) << 3 | 1 << 1
    return b"\x28\xb5\x2f\xfd\0\x38" + b"".join(
        (block | (i == runs - 1)).to_bytes(3, "little") + b"\0" for i in range(runs)
    )


def one_tile(side: int, tile: int) -> bytes:
    """A TIFF of `side` x `side` pixels in a tile of `tile` x `tile`."""
    data = zstd_zeros(tile * tile)
    tags = {256: side, 257: side, 258: 8, 259: 50000, 262: 1, 277: 1, 322: tile, 323: tile, 324: 8, 325: len(data)}
    return tiff({tag: (value,) for tag, value in tags.items()}, data)


def strips(side: int, count: int) -> bytes:
    """A TIFF of `side` x `side` pixels that lists `count` strips."""
    tags = {tag: (value,) for tag, value in {256: side, 257: side, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1}.items()}
    return tiff(tags | {273: (8,) * count, 279: (side,) * count}, bytes(side))


def float_tiff(width: int, height: int) -> bytes:
    """Zeros of 32 bits."""
    data = zlib.compress(bytes(4 * width * height), 1)
    tags = {256: width, 257: height, 258: 32, 259: 8, 262: 1, 273: 8, 277: 1, 278: height, 279: len(data), 339: 3}
    return tiff({tag: (value,) for tag, value in tags.items()}, data)


def scans(width: int, height: int, count: int) -> bytes:
    """A progressive JPEG of `count` scans, in which nothing is left to add: each is a few runs of blocks."""
    left, bits = -(-width // 8) * -(-height // 8), ""
    while left:
        run = min(left, 2**15 - 1)
        size = run.bit_length() - 1
        bits += f"{size:04b}" + (f"{run - 2**size:0{size}b}" if size else "")
        left -= run
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    scan = b"\xff\xda\0\x08\1\1\0\1\x3f\0" + data
    table = bytes([0, 0, 0, 15, *[0] * 12]) + bytes(run << 4 for run in range(15))  # 15 codes of 4 bits
    return (
        b"\xff\xd8\xff\xdb\0\x43\0" + b"\1" * 64
        + b"\xff\xc2\0\x0b\x08" + struct.pack(">HH", height, width) + b"\1\1\x11\0"
        + b"\xff\xc4" + struct.pack(">H", 3 + len(table)) + b"\x10" + table
        + scan * count + b"\xff\xd9"
    )  # fmt: skip


def commented_jpeg(count: int) -> bytes:
    """A JPEG with `count` empty comments."""
    whole = saved(WHITE, "JPEG")
    return whole[:2] + b"\xff\xfe\0\2" * count + whole[2:]


def endless_jpeg(size: int) -> bytes:
    """A JPEG of `size` bytes. Pillow joins its pieces of EXIF one by one, in a time that grows with the square of their
    number: 2.5 s for 1 MB, 180 s for 8 MB. No bound on its structure refuses it.
    """
    whole = saved(WHITE, "JPEG")
    piece = b"\xff\xe1" + struct.pack(">H", 108) + b"Exif\0\0" + bytes(100)
    return whole[:2] + piece * (size // len(piece)) + whole[2:]


def checkerboard(side: int) -> bytes:
    """A PNG whose pixels are black and white in turns, which `canonical` takes longest for."""
    rows = b"".join(bytes((x + y) % 2 * 255 for x in range(side)) for y in range(side))
    return saved(Image.frombytes("L", (side, side), rows), "PNG")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
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
# Of these, each may take a decoder's time and memory; nothing else may notice.
COSTLY = {
    "tiff of 64x64 in a tile of 32768x32768": one_tile(64, 32768),
    "jpeg of 40,804 scans": scans(316, 316, 40_804),
    "jpeg of 12 megapixels and 64 scans": scans(4000, 3000, 64),
    "jpeg of 12 megapixels and 2,000 scans": scans(4000, 3000, 2000),
    "jpeg of 600,000 comments": commented_jpeg(600_000),
    "png of 200,000 chunks": claiming(64, 64, ZEROS[:100], *[chunk(b"tEXt", b"a\0")] * 200_000),
    "tiff of 400,000 strips": strips(64, 400_000),
    "float tiff of 12 megapixels": float_tiff(4000, 3000),
    "png of 1x25,000,000": claiming(1, 25_000_000, ZEROS),
    "webp of 12 megapixels": WEBP[:24] + bytes([0x9F, 0x0F, 0, 0xB7, 0x0B, 0]),
    "checkerboard of 384x384": checkerboard(384),
}
