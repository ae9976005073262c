"""What every test may use: the repository, a working folder of its own, and the data beside it that only we have."""

import pickle
from pathlib import Path

import pytest
from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the project's params.yaml, made the current one: stages read and write their files there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    return tmp_path


@pytest.fixture
def shared_mnist() -> Path:
    """The folder with MNIST's real files, which lies beside the project where that is developed and where CI runs.

    Skips where there is no such place; where there is one, the files must be in it.
    """
    if not SHARED.is_dir():
        pytest.skip(f"needs MNIST's files in {SHARED}")
    folder = SHARED / "data" / "mnist"
    assert folder.is_dir(), f"{SHARED} is there, {folder} is not"
    return folder


@pytest.fixture(scope="session")
def first_run(tmp_path_factory):
    """A clone in which `dvc repro` has run once, and what that said: for all test processes together, it takes minutes.

    What it made lies in the folder `promoted` beside the clone, too, for whoever comes when the clone has gone on.
    """
    from tests.clones import Clone

    everyones = tmp_path_factory.getbasetemp()
    if everyones.name.startswith("popen-"):  # a process of pytest-xdist
        everyones = everyones.parent
    known = everyones / "first_run"
    with FileLock(everyones / "first_run.lock"):
        if not known.exists():
            clone = Clone(everyones / "first" / "clone")
            ran = clone.repro()
            assert ran.returncode == 0, ran.stdout + ran.stderr
            clone.publish(everyones / "first" / "promoted")
            known.write_bytes(pickle.dumps((clone, ran)))
    return pickle.loads(known.read_bytes())
