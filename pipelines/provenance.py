"""What a model is made of: the hashes and the git revision that tie data, code, run and bundle together."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Final

import yaml

from model.hashing import sha256
from pipelines import paths
from pipelines.artefacts import Prepared, Split

# Tracked files that a run of the pipeline writes. They do not make the tree dirty.
WRITTEN_BY_A_RUN: Final = ("dvc.lock", "pipelines/compare/dvc.lock", str(paths.PROMOTIONS))


def git_revision() -> str | None:
    """The commit that is checked out. In an image, the commit it was built from. Otherwise None."""
    return _git("rev-parse", "HEAD") or os.environ.get("NEOCOG_REVISION") or None


def git_dirty() -> bool | None:
    """Whether tracked files differ from the commit that is checked out. None outside a git repository.

    Models and images both use this definition.
    """
    excluded = [f":!{path}" for path in WRITTEN_BY_A_RUN]
    status = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *excluded)
    return None if status is None else bool(status)


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def data_hash() -> str:
    """SHA-256 over the hashes of prepared.npz and synthetic.npz."""
    return hashlib.sha256((sha256(paths.PREPARED) + sha256(paths.SYNTHETIC)).encode()).hexdigest()


def labels_hash() -> str:
    """SHA-256 of people's labels and pictures that a model is trained on. Those that only judge it do not matter."""
    images, labels = Prepared.load(paths.LABELS).of(Split.TRAIN)
    return hashlib.sha256(labels.tobytes() + images.tobytes()).hexdigest()


def params_hash(file: Path = paths.PARAMS) -> str:
    """SHA-256 of the parameters in params.yaml. Comments and layout do not matter."""
    params = json.dumps(yaml.safe_load(file.read_text()), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(params.encode()).hexdigest()
