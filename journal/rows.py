"""Predictions and labels on their way to the journal.

No SQLAlchemy here: the service imports this before it is ready.
"""

from typing import Final, NamedTuple

ID: Final = 32  # hexadecimal digits of a prediction's id
ROW: Final = 1_250  # bytes of memory of a row with its image, beside its probabilities and its tag
TAG: Final = 200  # characters a client may send to find its predictions again
CALLER: Final = 16  # hexadecimal digits of the hash that stands for an API key or an address
ROLES: Final = ("caller", "labeller")  # who labelled: the client of the prediction, or a person with the role
# Why a label was asked for: nobody asked; drawn at random; the model was unsure; the class, or a cluster of unusual
# pictures, had few; the answer was known before.
ASKED: Final = ("volunteered", "audit", "uncertain", "class", "novel", "golden")


class LabelRow(NamedTuple):
    """A label on its way to the journal: columns of `tables.feedback`."""

    prediction_id: str
    label: int  # a place among the bundle's labels
    by: str | None = None
    role: str = "caller"
    asked: str = "volunteered"
    seconds: float | None = None
    blind: bool | None = None


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
    caller: str | None = None  # see `tables.predictions`

    @property
    def size(self) -> int:
        """Bytes of memory that the row takes, at most: a character of a tag takes 1 to 4."""
        return ROW + len(self.probabilities) + (4 * len(self.tag) if self.tag else 0)
