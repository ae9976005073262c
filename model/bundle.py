"""The released artifact: a folder with the model, who it is, and the answers it must give. Written, read, verified.

model.onnx       input `image` float32 n x 1 x 28 x 28 in 0..1, output `prob` float32 n x 10
manifest.json    `Manifest`
reference.npz    histograms of what the model saw and said on validation data, for drift
golden.npz       a few encoded images, their canonical pixels and their probabilities
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.hashing import sha256
from model.labels import LABELS

MODEL: Final = "model.onnx"
MANIFEST: Final = "manifest.json"
REFERENCE: Final = "reference.npz"
GOLDEN: Final = "golden.npz"


class BundleError(Exception):
    """The bundle cannot be used: missing, incomplete, altered, or for other code than this."""


class Manifest(BaseModel):
    """Who the model is, and of what it was made. Hashes are SHA-256, in hexadecimal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str  # the first 12 digits of the model's hash: the same model has the same version everywhere
    created: str  # UTC, ISO 8601
    labels: list[str] = Field(min_length=1)  # in the order of the model's probabilities
    canonical_version: str
    sha256: dict[str, str]  # model, data, params, and every other file of the bundle by its name
    git_revision: str | None
    git_dirty: bool | None
    run: str  # the run's own name, also a tag of it in MLflow
    mlflow_run_id: str | None  # None where no tracking server answered when it was trained
    metrics: dict[str, float]
    temperature: float = Field(gt=0)
    abstain_below: float = Field(ge=0, le=1)


class Golden(BaseModel):
    """Inputs and the answers they must give."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    encoded: list[bytes]  # image files, as a client sends them
    pixels: NDArray[np.uint8]  # n x 28 x 28, what `canonical` makes of them
    prob: NDArray[np.float32]  # n x 10

    def save(self, path: Path) -> None:
        files = {f"encoded_{i}": np.frombuffer(data, np.uint8) for i, data in enumerate(self.encoded)}
        np.savez(path, pixels=self.pixels, prob=self.prob, **files)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Golden":
        with np.load(path, allow_pickle=False) as arrays:
            encoded = [arrays[f"encoded_{i}"].tobytes() for i in range(len(arrays["pixels"]))]
            return cls(encoded=encoded, pixels=arrays["pixels"], prob=arrays["prob"])


def write(
    folder: Path,
    *,
    model: bytes,
    golden: Golden,
    reference: Mapping[str, NDArray[np.floating]],
    hashes: Mapping[str, str],
    identity: Mapping[str, object],
    metrics: Mapping[str, float],
    labels: Sequence[str] = LABELS,
) -> Manifest:
    """Writes a bundle to `folder`, never half of one; what was there before is replaced."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (made / MODEL).write_bytes(model)
        golden.save(made / GOLDEN)
        np.savez(made / REFERENCE, **reference)  # type: ignore[arg-type]
        files = {name: sha256(made / name) for name in (GOLDEN, REFERENCE)}
        model_hash = sha256(made / MODEL)
        manifest = Manifest.model_validate(
            {
                **identity,
                "version": model_hash[:12],
                "labels": list(labels),
                "sha256": {"model": model_hash, **hashes, **files},
                "metrics": dict(metrics),
            }
        )
        (made / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n")
        made.chmod(0o755)  # mkdtemp's folders are the owner's alone
        replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return manifest


def replace(new: Path, folder: Path) -> None:
    """`folder` becomes `new`, by renaming. Both must be on one file system."""
    old = new.with_name(new.name + ".old")
    if folder.exists():
        folder.replace(old)
    new.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def read(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`, after every file was held against its hash. Raises `BundleError`."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        found = {"model": sha256(folder / MODEL)} | {name: sha256(folder / name) for name in (GOLDEN, REFERENCE)}
    except FileNotFoundError as error:
        raise BundleError(f"no bundle at {folder}: {Path(error.filename).name} is missing") from None
    except OSError as error:
        raise BundleError(f"the bundle at {folder} cannot be read: {error}") from None
    except (ValidationError, json.JSONDecodeError) as error:
        raise BundleError(f"{folder / MANIFEST} is not a manifest this code reads: {error}".splitlines()[0]) from None
    for name, digest in found.items():
        expected = manifest.sha256.get(name)
        if digest != expected:
            raise BundleError(
                f"{folder}: the {name} has SHA-256 {digest[:12]}…, the manifest says {(expected or '?')[:12]}…"
            )
    if manifest.version != manifest.sha256["model"][:12]:
        raise BundleError(f"{folder / MANIFEST} contradicts itself: its version is not the model's")
    return manifest
