"""The bundle: the folder that is released, with the model, its manifest, and answers that it must give.

model.onnx       input `image` float32 n x 1 x 28 x 28 in 0..1; outputs `prob` float32 n x labels, and `features`
                 float32 n x 4, which bundles of before `model.drift` lack
manifest.json    `Manifest`
reference.npz    `model.drift.Reference`: what the statistics of predictions are on validation data
golden.npz       a few encoded images, their canonical pixels and their probabilities
"""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model import npz
from model.canonical import SIDE
from model.hashing import sha256

MODEL: Final = "model.onnx"
MANIFEST: Final = "manifest.json"
REFERENCE: Final = "reference.npz"
GOLDEN: Final = "golden.npz"
FEATURES: Final = 4  # columns of the output `features`: principal components of the layer before the last
# Bytes of each file; a larger one is refused unread. The project's own are a hundredth of these.
LARGEST: Final = {MANIFEST: 1_000_000, MODEL: 100_000_000, REFERENCE: 1_000_000, GOLDEN: 4_000_000}
PICTURES: Final = 256  # in golden.npz
UNPACKED: Final = 2 * LARGEST[GOLDEN]  # bytes of golden.npz's arrays; `Golden.save` does not pack them


class BundleError(Exception):
    """The bundle cannot be used: it is missing, incomplete, altered, or made for another version of the code."""


class UnreadableBundleError(BundleError):
    """The system did not let a file of the bundle be read. The same bundle may be read another time."""


class Manifest(BaseModel):
    """The identity of the model, and what it was made from. Hashes are SHA-256, in hexadecimal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str  # the first 12 digits of the model's hash, so the same model has the same version everywhere
    created: str  # UTC, ISO 8601
    labels: list[str] = Field(min_length=1)  # in the order of the model's probabilities
    canonical_version: str
    sha256: dict[str, str]  # of model, data, people's labels, params, and of every other file of the bundle by its name
    git_revision: str | None
    git_dirty: bool | None
    run: str  # the key of the run, which is also its tag in MLflow
    mlflow_run_id: str | None  # None if no tracking server answered during the training
    metrics: dict[str, float]
    temperature: float = Field(gt=0)
    abstain_below: float = Field(ge=0, le=1)


class Golden(BaseModel):
    """Inputs, and the answers that the model must give. The picture at a place is of the label at that place."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    encoded: list[bytes]  # image files, as a client sends them
    pixels: NDArray[np.uint8]  # n x 28 x 28, their canonical images
    prob: NDArray[np.float32]  # n x labels

    def save(self, path: Path) -> None:
        """Writes golden.npz."""
        files = {f"encoded_{i}": np.frombuffer(data, np.uint8) for i, data in enumerate(self.encoded)}
        np.savez(path, pixels=self.pixels, prob=self.prob, **files)  # type: ignore[arg-type]

    @classmethod
    def parse(cls, data: bytes) -> "Golden":
        """What golden.npz, of which `data` are the bytes, holds. Raises `BundleError`."""
        try:
            arrays = npz.load(data, members=PICTURES + 2, unpacked=UNPACKED)
            pixels, prob = arrays["pixels"], arrays["prob"]
            encoded = [arrays[f"encoded_{i}"].tobytes() for i in range(len(pixels))]
        except (ValueError, TypeError) as error:
            raise BundleError(f"{GOLDEN}: {error}") from None
        except KeyError as error:
            raise BundleError(f"{GOLDEN}: {error} is missing") from None
        if pixels.shape != (len(encoded), SIDE, SIDE) or pixels.dtype != np.uint8 or not encoded:
            raise BundleError(f"{GOLDEN}: pixels are {pixels.dtype} of shape {pixels.shape}")
        if prob.ndim != 2 or len(prob) != len(encoded) or prob.dtype != np.float32:
            raise BundleError(f"{GOLDEN}: prob is {prob.dtype} of shape {prob.shape}")
        return cls(encoded=encoded, pixels=pixels, prob=prob)


class Bundle(NamedTuple):
    """The files of a bundle, each read once: what is used has the hash that was checked."""

    manifest: Manifest
    model: bytes  # of model.onnx
    golden: bytes  # of golden.npz
    reference: bytes  # of reference.npz


def write(
    folder: Path,
    *,
    model: bytes,
    golden: Golden,
    reference: bytes,
    hashes: Mapping[str, str],
    identity: Mapping[str, object],
    metrics: Mapping[str, float],
    labels: Sequence[str],
) -> Manifest:
    """Writes a bundle and puts it in the place of `folder`. If writing fails, `folder` stays unchanged."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (made / MODEL).write_bytes(model)
        golden.save(made / GOLDEN)
        (made / REFERENCE).write_bytes(reference)
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
        made.chmod(0o755)  # mkdtemp lets only the owner in
        replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return manifest


def replace(new: Path, folder: Path) -> None:
    """Renames `new` to `folder` and removes the old folder. Both must be on one file system."""
    old = new.with_name(new.name + ".old")
    if folder.exists():
        folder.replace(old)
    new.replace(folder)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> Bundle:
    """The bundle in `folder`. Raises `BundleError` unless every file has its hash.

    Each file is read once. Another bundle may take the folder's place meanwhile; files of two bundles have no common
    manifest.
    """
    try:
        files = {name: _contents(folder / name, most) for name, most in LARGEST.items()}
    except FileNotFoundError as error:
        raise BundleError(f"no bundle at {folder}: {Path(error.filename).name} is missing") from None
    except OSError as error:
        raise UnreadableBundleError(f"the bundle at {folder} cannot be read: {error}") from None
    try:
        manifest = Manifest.model_validate_json(files[MANIFEST])
    except ValidationError as error:
        raise BundleError(f"{folder / MANIFEST} is not a manifest this code reads: {error}".splitlines()[0]) from None
    for name, data in (("model", files[MODEL]), (GOLDEN, files[GOLDEN]), (REFERENCE, files[REFERENCE])):
        digest, expected = hashlib.sha256(data).hexdigest(), manifest.sha256.get(name)
        if digest != expected:
            raise BundleError(
                f"{folder}: the {name} has SHA-256 {digest[:12]}…, the manifest says {(expected or '?')[:12]}…"
            )
    if manifest.version != manifest.sha256["model"][:12]:
        raise BundleError(f"{folder / MANIFEST} contradicts itself: its version is not the model's")
    return Bundle(manifest, files[MODEL], files[GOLDEN], files[REFERENCE])


def read(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`. Raises `BundleError` unless every file has its hash."""
    return load(folder).manifest


def _contents(path: Path, most: int) -> bytes:
    """The bytes of a regular file. Raises `OSError`, and `BundleError` where it is no such file or has too many.

    It is checked before it is opened, and again after that. Without O_NONBLOCK, opening a FIFO that has come between
    would wait for somebody to write to it. Regular files ignore the flag.
    """
    _check(path, path.stat(), most)
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        _check(path, status, most)
        return file.read(status.st_size + 1)  # one more, so that a file that grows has another hash


def _check(path: Path, status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{path} is {stat.filemode(status.st_mode)}, not a regular file")
    if status.st_size > most:
        raise BundleError(f"{path} has {status.st_size:,} bytes, at most {most:,} are read")
