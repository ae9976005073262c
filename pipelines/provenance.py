"""Of what a model was made: the hashes and the revision that tie data, code, run and bundle together."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Final

import yaml

from model.hashing import sha256
from pipelines import paths

# What a run of the pipeline itself writes into git's tree; it doesn't make the code another.
WRITTEN_BY_A_RUN: Final = ("dvc.lock", "pipelines/compare/dvc.lock", str(paths.PROMOTIONS))


def git_revision() -> str | None:
    """The commit checked out, or, in an image, the one it was built of; None outside both."""
    return _git("rev-parse", "HEAD") or os.environ.get("NEOCOG_REVISION") or None


def git_dirty() -> bool | None:
    """Whether tracked files differ from that commit; None outside a git repository."""
    status = _git(
        "status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in WRITTEN_BY_A_RUN)
    )
    return None if status is None else bool(status)


def _git(*arguments: str) -> str | None:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def data_hash() -> str:
    """SHA-256 over those of the prepared and of the drawn images."""
    return hashlib.sha256((sha256(paths.PREPARED) + sha256(paths.SYNTHETIC)).encode()).hexdigest()


def params_hash(file: Path = paths.PARAMS) -> str:
    """SHA-256 of what params.yaml says, whatever its comments and layout."""
    said = json.dumps(yaml.safe_load(file.read_text()), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(said.encode()).hexdigest()
