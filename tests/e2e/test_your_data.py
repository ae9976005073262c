"""docs/your-data.md, done literally in a clone: from a folder of letters to /predict."""

import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import yaml

from model import bundle
from model.canonical import canonical_batch
from model.canonical.images import decode
from tests.clones import Clone
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

PAGE = (REPOSITORY / "docs" / "your-data.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
LETTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
DRAWN = 'FOLDER, COUNT, SEED = "letters", 60, 0'


def merged(old, new):
    """`old` with the values of `new`: mappings are merged, lists are appended to."""
    if isinstance(old, dict):
        return old | {key: merged(old.get(key), value) for key, value in new.items()}
    return old + new if isinstance(old, list) else new


def done(clone, *command):
    ran = clone.run(*command)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone in which every step of the page up to `dvc repro` was done, and what the shell printed."""
    clone = Clone(tmp_path_factory.mktemp("your-data") / "clone")
    clone.printed = ""
    for language, text in BLOCKS:
        if language == "python":
            done(clone, sys.executable, "-c", text)
            done(clone, sys.executable, "-c", text.replace(DRAWN, 'FOLDER, COUNT, SEED = "unseen", 4, 1'))
        elif language == "yaml":
            file = clone.folder / text.split("\n")[0].removeprefix("# ")
            file.write_text(yaml.safe_dump(merged(yaml.safe_load(file.read_text()), yaml.safe_load(text))))
        elif language == "sh":
            clone.printed += done(clone, "bash", "-euc", text)
    return clone


def pictures(folder):
    return sorted(folder.glob("*/*.png"))


def test_the_page_has_each_kind_of_step():
    assert [language for language, _ in BLOCKS] == [
        "text", "python", "yaml", "yaml", "sh", "sh", "text", "text", "json",
    ]  # fmt: skip
    assert DRAWN in PAGE


def test_the_pipeline_prints_what_the_page_says(clone):
    """Hashes and the version of the model depend on the machine."""
    lines = {re.sub(r"[0-9a-f]{12,}", "HASH", line) for line in clone.printed.splitlines()}
    shown = BLOCKS[6][1]
    assert "promote: model " in shown
    assert {re.sub(r"[0-9a-f]{12,}|[0-9a-f]+…", "HASH", line) for line in shown.splitlines()} <= lines


def test_the_step_for_m_and_w_is_needed(clone):
    """This process has the canonical of digits."""
    files = pictures(clone.folder / "letters")
    _, refused = canonical_batch([decode(file.read_bytes()) for file in files])
    letters = {files[row].parent.name for row in refused}
    assert letters
    assert letters <= {"M", "W"}


def test_the_champion_has_the_labels_of_the_folder(clone):
    champion = bundle.read(clone.folder / "out" / "champion")
    assert champion.labels == LETTERS
    assert champion.canonical_version == "2-letters"
    gate = (clone.folder / "out" / "gate.md").read_text()
    assert all(f"| accuracy on {letter} |" in gate for letter in LETTERS)


@contextmanager
def served(clone):
    """A client of `python -m service`, started in the clone."""
    assert "\npython -m service &\n" in PAGE
    env = {name: value for name, value in os.environ.items() if not name.startswith(("NEOCOG", "COV"))}
    service = subprocess.Popen(
        [sys.executable, "-m", "service"], cwd=clone.folder, env=env | {"NEOCOG_PORT": "0"},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        address = next(found[1] for line in service.stderr if (found := re.search(r"running on (http://\S+)", line)))
        drain = threading.Thread(target=service.stderr.read)
        drain.start()
        with httpx2.Client(base_url=address) as client:
            yield client
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(timeout=120)
        drain.join()
        service.stderr.close()


def test_the_service_reads_letters_that_the_pipeline_has_not_seen(clone):
    [asked] = re.findall(r"^curl -F image=@(\S+) localhost:8000/predict$", PAGE, re.MULTILINE)
    with served(clone) as client:

        def answer(file):
            return client.post("/predict", files={"image": file.read_bytes()}).json()

        assert client.get("/version").json()["labels"] == LETTERS
        assert client.get("/").status_code == 200
        first = answer(clone.folder / asked)
        assert list(first) == re.findall(r'"(\w+)":', BLOCKS[8][1])
        assert first["label"] == Path(asked).parent.name
        assert len(first["probabilities"]) == 26
        unseen = pictures(clone.folder / "unseen")
        assert len(unseen) == 4 * 26
        right = sum(answer(file).get("label") == file.parent.name for file in unseen)
    assert right >= 90  # of 104
