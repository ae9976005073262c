"""Reads a source of labelled pictures and writes one .npz with images, labels and their provenance."""

import gzip
import http.client
import math
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
import sklearn
from numpy.typing import NDArray
from pydantic import Field
from sklearn.datasets import load_digits
from tqdm import tqdm

from model.canonical import grey
from model.canonical.images import BadImage, decode
from model.hashing import sha256
from model.labels import DIGITS
from pipelines import paths, stage
from pipelines.artefacts import Source
from pipelines.stage import StageError

MIRRORS: Final = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SHA256: Final = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MOST_CLASSES: Final = 255  # a label is a byte, and one more label stands for pictures of no class
NAME: Final = re.compile(r"[\w-]+")  # of a class; MLflow and DVC name metrics by it
TRIES: Final = 3  # of each mirror
TIMEOUT: Final = 20  # seconds without a byte


class DataParams(stage.Params, section="data"):
    """Where the images come from."""

    source: Literal["digits", "mnist", "folder"]
    mnist_dir: Path | None = Field(description="a folder with MNIST's four .gz files; None downloads them")
    folder: Path | None = Field(description="a folder with one subfolder of pictures for each label")


def digits() -> Source:
    """The handwritten digits of scikit-learn: 1,797 images of 8x8. Their 17 grey levels are spread over 0..255."""
    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    provenance: dict[str, object] = {
        "source": "digits",
        "what": "test set of UCI's Optical Recognition of Handwritten Digits, as scikit-learn ships it (CC BY 4.0)",
        "scikit-learn": sklearn.__version__,
    }
    return Source(images, bunch.target.astype(np.uint8), DIGITS, np.zeros(len(images), np.bool_), provenance)


def mnist(folder: Path) -> Source:
    """MNIST from its four IDX files: 70,000 images of 28x28. The last 10,000 are MNIST's own test set."""
    images = [idx(folder / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k")]
    labels = [idx(folder / f"{part}-labels-idx1-ubyte.gz") for part in ("train", "t10k")]
    is_test = np.repeat([False, True], [len(part) for part in labels])
    provenance: dict[str, object] = {
        "source": "mnist",
        "what": "MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0)",
        "sha256": SHA256,
    }
    return Source(np.concatenate(images), np.concatenate(labels), DIGITS, is_test, provenance)


def folder(root: Path) -> Source:
    """Pictures in one subfolder for each label, of any size. The subfolder's name is the label.

    Hidden files are left out. Raises `StageError` for any other file that is not a picture, and for a name that cannot
    be a label.
    """
    if not root.is_dir():
        raise StageError(f"data.folder: {root} is not a folder")
    subfolders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not 2 <= len(subfolders) <= MOST_CLASSES:
        raise StageError(f"data.folder: {root} has {len(subfolders)} subfolders; needed is one for each label,"
                         f" from 2 to {MOST_CLASSES}")  # fmt: skip
    for subfolder in subfolders:
        if not NAME.fullmatch(subfolder.name):
            raise StageError(f"data.folder: {subfolder.name!r} cannot be a label; allowed are letters, digits, - and _")
    files = [
        (label, file)
        for label, subfolder in enumerate(subfolders)
        for file in sorted(subfolder.iterdir())
        if not file.name.startswith(".")
    ]
    if not files:
        raise StageError(f"data.folder: the subfolders of {root} hold no pictures")
    images = [_picture(file) for _, file in tqdm(files, desc=root.name, unit="image", unit_scale=True, mininterval=0.5)]
    provenance: dict[str, object] = {"source": "folder", "what": f"pictures in {len(subfolders)} subfolders"}
    return Source(
        np.stack(images) if len({image.shape for image in images}) == 1 else images,
        np.array([label for label, _ in files], np.uint8),
        tuple(subfolder.name for subfolder in subfolders),
        np.zeros(len(files), np.bool_),
        provenance,
        tuple(str(file) for _, file in files),
    )


def _picture(file: Path) -> NDArray[np.uint8]:
    try:
        return grey(decode(file.read_bytes()))
    except (BadImage, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StageError(f"{file} is not a picture that can be used: {reason}") from None


def idx(path: Path) -> NDArray[np.uint8]:
    """The array in a gzipped IDX file of unsigned bytes. Raises `StageError` for any other file."""
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise StageError(f"{path} is not a complete gzip file: {error}") from None
    dimensions = data[3] if data[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(data[4 : 4 + 4 * dimensions], ">u4").tolist() if dimensions else []
    body = data[4 + 4 * dimensions :]
    if not dimensions or math.prod(shape) != len(body):
        raise StageError(f"{path} is not an IDX file of unsigned bytes: it holds {len(body):,} bytes for shape {shape}")
    return np.frombuffer(body, np.uint8).reshape(shape)


def check(folder: Path) -> None:
    """Raises `StageError` unless `folder` holds the four files and their hashes are right."""
    for name, expected in SHA256.items():
        path = folder / name
        if not path.is_file():
            raise StageError(f"data.mnist_dir: {path} is missing; needed are {', '.join(SHA256)}")
        actual = sha256(path)
        if actual != expected:
            raise StageError(
                f"{path} has SHA-256 {actual[:12]}…, expected {expected[:12]}…: the file is truncated or altered"
            )


def fetch(folder: Path, mirrors: Sequence[str] = MIRRORS, pause: float = 1.0) -> None:
    """Downloads the files of MNIST that `folder` does not have yet.

    Waits `pause` seconds between two attempts, and twice as long after each. Raises `StageError` if no mirror sends a
    file with the right hash. Never leaves a partial file.
    """
    for name, expected in SHA256.items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            _download(path, expected, mirrors, pause)


def _download(path: Path, expected: str, mirrors: Sequence[str], pause: float) -> None:
    problems = []
    for attempt in range(TRIES):
        for mirror in mirrors:
            try:
                with stage.writing(path) as half:
                    _stream(mirror + path.name, half)
                    actual = sha256(half)
                    if actual != expected:
                        raise StageError(f"sent a file with SHA-256 {actual[:12]}…, expected {expected[:12]}…")
                return
            except (OSError, http.client.HTTPException, StageError) as error:  # URLErrors and time-outs are OSErrors
                reason = error.reason if isinstance(error, urllib.error.URLError) else error
                problems.append(f"{mirror} {reason}")
        if attempt < TRIES - 1:
            time.sleep(pause * 2**attempt)
    raise StageError(
        f"{path.name} could not be downloaded ({'; '.join(dict.fromkeys(problems))}); without a network use"
        " data.source: digits, or set data.mnist_dir to a folder with the files"
    )


def _stream(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, path.open("wb") as file:
        size = int(answer.headers.get("Content-Length") or 0)
        with tqdm(total=size or None, unit="B", unit_scale=True, desc=path.name.strip(".")[:26]) as bar:
            while chunk := answer.read(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
        if size and file.tell() != size:
            raise OSError(f"the connection ended after {file.tell():,} of {size:,} bytes")


def read(params: DataParams) -> Source:
    """The source that `params` name. Raises `StageError` if it needs another parameter, or ignores one."""
    for source, name in (("mnist", "mnist_dir"), ("folder", "folder")):
        if getattr(params, name) is not None and params.source != source:
            raise StageError(f"data.{name} has no effect with data.source '{params.source}'; set data.source to"
                             f" '{source}', or data.{name} to null")  # fmt: skip
    match params.source:
        case "digits":
            return digits()
        case "folder":
            if params.folder is None:
                raise StageError("data.source is 'folder', so data.folder must name the folder")
            return folder(params.folder)
    if params.mnist_dir is None:
        fetch(paths.MNIST)
    else:
        check(params.mnist_dir)
    return mnist(params.mnist_dir or paths.MNIST)


def main() -> None:
    params = DataParams.load()
    source = read(params)
    source.save(paths.RAW)
    print(f"ingest: {len(source.images):,} images of {len(source.classes)} classes from {params.source}")


if __name__ == "__main__":
    stage.run(main)
