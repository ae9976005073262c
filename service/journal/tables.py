"""The journal's two tables. `migrations/` makes them and changes them; a test holds one against the other."""

from typing import Final

import lz4.block
import numpy as np
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

HEAD: Final = "0001"  # the newest of migrations/versions, so that a start needn't import Alembic to know it
ID: Final = 32  # hexadecimal digits of a prediction's id
TAG: Final = 200  # characters a client may send to find its predictions again

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


def pack(pixels: bytes) -> bytes:
    """784 grey levels in about 250 bytes. zlib makes 220 of them, in eight times the time: 17 us instead of 2."""
    packed: bytes = lz4.block.compress(pixels, store_size=False)
    return packed


def unpack(packed: bytes) -> Pixels:
    """28 x 28 uint8, as it was."""
    return np.frombuffer(lz4.block.decompress(packed, SIDE * SIDE), np.uint8).reshape(SIDE, SIDE)
