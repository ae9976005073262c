"""A prediction on its way to the journal. No SQLAlchemy here: the service imports this before it is ready."""

from typing import Final, NamedTuple

ID: Final = 32  # hexadecimal digits of a prediction's id
ROW: Final = 1_250  # bytes of memory of a row with its image, beside its probabilities and its tag
TAG: Final = 200  # characters a client may send to find its predictions again


class PredictionRow(NamedTuple):
    """The columns of `tables.predictions`, with the image not yet packed."""

    id: str
    time: float  # seconds since 1970, UTC
    model_version: str
    digit: int  # the place of the answer among the bundle's labels
    confidence: float
    probabilities: bytes  # float32, little endian, one for each label
    abstained: bool
    image: bytes  # 28 x 28 uint8, what the model saw
    tag: str | None

    @property
    def size(self) -> int:
        """Bytes of memory that the row takes, at most: a character of a tag takes 1 to 4."""
        return ROW + len(self.probabilities) + (4 * len(self.tag) if self.tag else 0)
