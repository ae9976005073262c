"""Images as `ingest` leaves them for the stages after it."""

import json
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipelines import stage
from pipelines.stage import StageError


@dataclass(frozen=True)
class Source:
    """Images as they came, before anything is done to them."""

    images: NDArray[np.uint8]  # n x height x width, ink bright
    labels: NDArray[np.uint8]  # n
    is_test: NDArray[np.bool_]  # n, True where the source itself keeps the image for testing
    provenance: dict[str, object]

    def save(self, path: Path) -> None:
        with stage.writing(path) as half:
            np.savez(half, images=self.images, labels=self.labels, is_test=self.is_test,
                     provenance=np.frombuffer(json.dumps(self.provenance).encode(), np.uint8))  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "Source":
        """Raises `StageError` when the file is no such archive; `validate` judges what is in it."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                return cls(file["images"], file["labels"], file["is_test"], json.loads(file["provenance"].tobytes()))
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise StageError(f"{path} is not what ingest writes: {error}") from None
