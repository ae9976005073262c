"""The digits: the labels of the project's own data, and the only ones that it can synthesize.

Other data have other labels. `ingest` takes them from its source. Every later stage reads them from the files of the
stage before it, and the service from the bundle's manifest.
"""

from collections.abc import Sequence
from typing import Final

DIGITS: Final = tuple("0123456789")


def are_digits(classes: Sequence[str]) -> bool:
    """Whether every class is a digit. If not, there are no styles for it, and letters and signs may be classes."""
    return set(classes) <= set(DIGITS)
