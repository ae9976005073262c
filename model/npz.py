"""Reads .npz files that nobody vouches for: an array's size is checked before it is unpacked.

`numpy.load` unpacks what the zip directory says and allocates what an array's header says. 3 MB can then take 3 GB.
"""

import io
import math
import zipfile
import zlib
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_HEADERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_PACKED: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as NumPy writes; LZMA takes as much memory as a file asks


def load(data: bytes, *, members: int, unpacked: int) -> dict[str, NDArray[Any]]:
    """The arrays of the .npz file `data`, by their names.

    Raises `ValueError` where there are more than `members` arrays or more than `unpacked` bytes of them, where a header
    contradicts its array's size, and where `data` is no such file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > members:
                raise ValueError(f"{len(entries):,} arrays, at most {members:,} are read")
            size = sum(entry.file_size for entry in entries)
            if size > unpacked:
                raise ValueError(f"the arrays unpack to {size:,} bytes, at most {unpacked:,} are read")
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise ValueError(f"not an .npz file: {error}") from None


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    if entry.compress_type not in _PACKED:
        raise ValueError(f"{entry.filename} is packed by method {entry.compress_type}, allowed are {_PACKED}")
    with archive.open(entry) as file:
        raw = file.read(entry.file_size)  # `archive.read` unpacks all there is, whatever the directory says
    stream = io.BytesIO(raw)
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"{entry.filename} has version {version} of NumPy's format, allowed are {[*_HEADERS]}")
    shape, in_columns, dtype = _HEADERS[version](stream)
    claimed, there = math.prod(shape) * dtype.itemsize, len(raw) - stream.tell()
    if dtype.hasobject or claimed != there:
        raise ValueError(f"{entry.filename} claims {claimed:,} bytes of {dtype}, and has {there:,}")
    return np.frombuffer(raw, dtype, offset=stream.tell()).reshape(shape, order="F" if in_columns else "C")
