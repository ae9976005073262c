"""The table of skipped tests at the end of a run, and that CI fails on one."""

import subprocess
import sys

import pytest

from tests.conftest import NEEDS_SHARED, REPOSITORY

pytestmark = pytest.mark.slow

TESTS = f"""
import pytest

def test_one():
    pytest.skip("needs a tool: apt-get install tool")

def test_two():
    pytest.skip({NEEDS_SHARED!r})

def test_three():
    pass
"""


@pytest.mark.parametrize("processes", ["0", "2"])
@pytest.mark.parametrize(("selected", "must_run", "status"), [
    ("", "", 0), ("", "1", 1), ("two or three", "1", 0), ("three", "1", 0),
])  # fmt: skip
def test_what_was_skipped_is_listed_and_fails_ci(tmp_path, selected, must_run, status, processes):
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-n", processes, "-k", selected, "--rootdir", tmp_path, tmp_path]
    env = {"PYTHONPATH": str(REPOSITORY), "NEOCOG_TEST_ALL": must_run, "PATH": ""}
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ran.returncode == status, ran.stdout + ran.stderr
    table = (tmp_path / ".pytest_cache" / "skipped.txt").read_text()
    assert table in ran.stdout
    assert ("1  needs a tool: apt-get install tool" in table) == (selected == "")
    assert (NEEDS_SHARED in table) == ("two" in selected or not selected)
    assert ("every test ran" in table) == (selected == "three")
