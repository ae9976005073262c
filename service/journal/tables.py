"""The journal's two tables. `migrations/` makes them and changes them; a test holds one against the other."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import zstandard
from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)  # fmt: skip

from model.canonical import SIDE, Pixels
from service.journal import ID

HEAD: Final = "0001"  # the newest of migrations/versions, so that a start needn't import Alembic to know it

metadata: Final = MetaData()

predictions: Final = Table(
    "predictions",
    metadata,
    Column("id", String(ID), primary_key=True),
    Column("time", Float(53), nullable=False),  # seconds since 1970, UTC
    Column("model_version", String(12), nullable=False),
    Column("digit", SmallInteger, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("probabilities", LargeBinary, nullable=False),  # 10 float32, little endian
    Column("abstained", Boolean, nullable=False),
    Column("image", LargeBinary, nullable=False),  # `pack`: the 28x28 the model saw
    Column("tag", Text),
    Index("predictions_time", "time"),
)

feedback: Final = Table(
    "feedback",
    metadata,
    Column("id", String(ID), primary_key=True),
    # No foreign key: the prediction may still be in the queue, or was dropped when the database could not keep up.
    Column("prediction_id", String(ID), nullable=False),
    Column("time", Float(53), nullable=False),
    Column("label", Integer, nullable=False),
    Index("feedback_prediction", "prediction_id"),
)


_COMPRESSOR: Final = zstandard.ZstdCompressor(level=-5, write_checksum=False)


def pack(pixels: Sequence[bytes]) -> list[bytes]:
    """Each image's 784 grey levels in about 260 bytes, in 4 us; level 1 takes 10 for 210, zlib 17 for 220.

    All at once, for the sake of Python's lock: it is let go, and has to be got back from a busy event loop, once.
    """
    found = _COMPRESSOR.multi_compress_to_buffer(list(pixels), threads=0)
    return [found[i].tobytes() for i in range(len(found))]


def unpack(packed: bytes) -> Pixels:
    """28 x 28 uint8, as it was."""
    return np.frombuffer(zstandard.decompress(packed), np.uint8).reshape(SIDE, SIDE)
