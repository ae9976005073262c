"""The classes that the classifier tells apart."""

from typing import Final

LABELS: Final = tuple("0123456789")
CLASSES: Final = len(LABELS)
NO_DIGIT: Final = CLASSES  # the label of a picture without a digit; only training images have it
