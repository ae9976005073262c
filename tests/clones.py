"""Clones of the repository as it stands, uncommitted changes included, in which the pipeline really runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.conftest import REPOSITORY


class Clone:
    """A clone, and commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _git("clone", "-q", str(REPOSITORY), str(folder), at=REPOSITORY)
        for name in _git("ls-files", "-mo", "--exclude-standard", at=REPOSITORY).splitlines():
            if (REPOSITORY / name).is_file() and name != "promotions.jsonl":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, folder / name)
        _git("add", "-A", at=folder)
        someone = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        _git(*someone, "commit", "-q", "--allow-empty", "-m", "as it stands", at=folder)

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs `command` with this environment's programs first on the PATH and no tracking server.

        Coverage is not measured: it makes every import of torch and MLflow three times as long. torch's threads do not
        spin while they wait: where other tests use the cores, spinning made training several times as long.
        """
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "COV"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "OMP_WAIT_POLICY": "passive"}
        return subprocess.run(command, cwd=self.folder, env=clean | own | env, capture_output=True, text=True)

    def repro(self, *targets: str) -> subprocess.CompletedProcess[str]:
        return self.run("dvc", "repro", *targets)

    def publish(self, folder: Path) -> None:
        """Copies the champion and the log of promotions to `folder`."""
        shutil.copytree(self.folder / "out" / "champion", folder / "out" / "champion")
        shutil.copy2(self.folder / "promotions.jsonl", folder)

    def set(self, section: str, **values: object) -> None:
        """Changes parameters, as a person would in params.yaml."""
        file = self.folder / "params.yaml"
        params = yaml.safe_load(file.read_text())
        params[section] |= values
        file.write_text(yaml.safe_dump(params, sort_keys=False))


def _git(*arguments: str, at: Path) -> str:
    return subprocess.run(["git", *arguments], cwd=at, check=True, capture_output=True, text=True).stdout


def stages_run(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The stages that DVC says it ran."""
    return [line.split("'")[1] for line in result.stdout.splitlines() if line.startswith("Running stage '")]
