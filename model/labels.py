"""What the classifier tells apart."""

from typing import Final

LABELS: Final = tuple("0123456789")
CLASSES: Final = len(LABELS)
