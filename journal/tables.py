"""The journal's tables. `migrations/` creates and changes them; a test compares the two."""

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

from journal.rows import CALLER, ID
from model.canonical import SIDE, Pixels

HEAD: Final = "0002"  # the newest of migrations/versions, so that a start needn't import Alembic to know it

metadata: Final = MetaData()

predictions: Final = Table(
    "predictions",
    metadata,
    Column("id", String(ID), primary_key=True),
    Column("time", Float(53), nullable=False),  # seconds since 1970, UTC
    Column("model_version", String(12), nullable=False),
    Column("digit", SmallInteger, nullable=False),  # the place among the labels of the model's bundle
    Column("confidence", Float, nullable=False),
    Column("probabilities", LargeBinary, nullable=False),  # float32, little endian, one for each label
    Column("abstained", Boolean, nullable=False),
    Column("image", LargeBinary, nullable=False),  # `pack`: the 28x28 the model saw
    Column("tag", Text),
    Column("caller", String(CALLER)),  # a hash of the API key or the address; rows of revision 0001 have none
    Index("predictions_time", "time"),
)

feedback: Final = Table(
    "feedback",
    metadata,
    Column("id", String(ID), primary_key=True),
    # No foreign key: the prediction may still be in the queue, or was dropped when the database was away.
    Column("prediction_id", String(ID), nullable=False),
    Column("time", Float(53), nullable=False),
    Column("label", Integer, nullable=False),  # a place, as `digit`
    Column("by", String(CALLER)),  # who labelled: a hash, as `caller`
    Column("role", String(16), nullable=False, server_default="caller"),  # of `rows.ROLES`
    Column("asked", String(16), nullable=False, server_default="volunteered"),  # of `rows.ASKED`
    Column("seconds", Float),  # that the person took
    Column("blind", Boolean),  # the person did not see the prediction
    Index("feedback_prediction", "prediction_id"),
)

# What `pipelines.watch` has counted for each model, and how far it has read. Both change in one transaction.
watch: Final = Table(
    "watch",
    metadata,
    Column("model_version", String(12), primary_key=True),
    Column("prediction_cursor", String(ID), nullable=False),  # the last id that was counted
    Column("label_cursor", String(ID), nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("summary", Text, nullable=False),  # JSON, which the service shows
    Column("updated", Float(53), nullable=False),
)

alarms: Final = Table(
    "alarms",
    metadata,
    Column("id", String(ID), primary_key=True),
    Column("model_version", String(12), nullable=False),
    Column("time", Float(53), nullable=False),
    Column("kind", String(16), nullable=False),  # harm, risk or change
    Column("statistic", String(32), nullable=False),
    Column("since", Float(53), nullable=False),  # when what the alarm is about seems to have begun
    Column("detail", Text, nullable=False),  # JSON
    Index("alarms_model", "model_version", "time"),
)


_COMPRESSOR: Final = zstandard.ZstdCompressor(level=-5, write_checksum=False)


def pack(pixels: Sequence[bytes]) -> list[bytes]:
    """Packs each image's 784 grey levels into about 260 bytes.

    Takes 4 us an image. zstd's level 1 takes 10 us for 210 bytes, zlib 17 us for 220. One call packs all images: each
    call releases Python's lock, and waits to get it back from a busy event loop.
    """
    packed = _COMPRESSOR.multi_compress_to_buffer(list(pixels), threads=0)
    return [packed[i].tobytes() for i in range(len(packed))]


def unpack(packed: bytes) -> Pixels:
    """28 x 28 uint8, as it was."""
    return np.frombuffer(zstandard.decompress(packed), np.uint8).reshape(SIDE, SIDE)
