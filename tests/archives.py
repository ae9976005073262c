"""Hostile .npz files: small, and unpacking to what fills the memory, or claiming it."""

import io
import struct
import zipfile

import numpy as np

ZEROS = 200_000_000  # bytes; deflate packs them to 200 kB


def packed(**members: bytes) -> bytes:
    """A .npz file with the members as they are, deflated."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(shape: tuple[int, ...]) -> bytes:
    """Of a .npy file of bytes, without the bytes."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def inflating() -> bytes:
    """Unpacks to `ZEROS` bytes, and says so."""
    return packed(pixels=header((ZEROS,)) + bytes(ZEROS))


def claiming() -> bytes:
    """An array's header claims `ZEROS` bytes, and none follow."""
    return packed(pixels=header((ZEROS,)))


def lying() -> bytes:
    """Unpacks to `ZEROS` bytes, and its directory says 1,000."""
    honest, size = inflating(), struct.pack("<I", ZEROS + len(header((ZEROS,))))
    assert honest.count(size) == 2  # before the data, and in the directory
    return honest.replace(size, struct.pack("<I", 1000))


def crowded() -> bytes:
    """20,000 arrays."""
    return packed(**{f"encoded_{i}": b"" for i in range(20_000)})


def by_lzma() -> bytes:
    """Packed by LZMA, whose decoder takes as much memory as the file asks for."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("pixels.npy", npy(np.zeros(10, np.uint8)))
    return file.getvalue()


def of_objects() -> bytes:
    """Pickled objects, which run code when they are loaded."""
    return packed(pixels=npy(np.array([{}], dtype=object)))


# How each is built, and what is said of it.
HOSTILE = {
    "inflating": (inflating, "unpack to 200,000,1.. bytes, at most"),
    "claiming": (claiming, "claims 200,000,000 bytes of uint8, and has 0"),
    "lying": (lying, "Bad CRC-32"),
    "crowded": (crowded, "20,000 arrays, at most"),
    "by LZMA": (by_lzma, "packed by method 14"),
    "of objects": (of_objects, "bytes of object, and has"),
    "no zip": (lambda: b"PK", "not an .npz file"),
}
