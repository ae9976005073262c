"""What every test may use: the repository, a working folder of its own, and the data beside it that only we have.

A test that needs a tool which is missing skips, and says how to install it. The run ends with a table of these; with
NEOCOG_TEST_ALL=1, as in CI, one such skip fails the run.
"""

import os
import pickle
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
NEEDS_SHARED = "needs MNIST's files in ../shared, which only the project's own machines have"

# The same examples on every machine, however slow it is: what is green here is green there.
settings.register_profile("neocog", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("neocog")


# What a test with one of these fixtures needs: a run of the pipeline, a container, a server, a browser, a process.
SLOW = {"first_run", "engine", "shared_server", "postgres", "redis", "browser", "serve", "service"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as `slow` what `make check` leaves out. Tests that train say so themselves."""
    for item in items:
        if SLOW & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


def skips(config: pytest.Config) -> Counter[str]:
    """How many tests skipped for each reason."""
    reports = config.pluginmanager.get_plugin("terminalreporter").stats.get("skipped", [])
    return Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """CI fails on a skip, but for the data that only the project's own machines have."""
    if hasattr(session.config, "workerinput"):  # a process of pytest-xdist: the first one has all reports
        return
    if os.environ.get("NEOCOG_TEST_ALL") and set(skips(session.config)) - {NEEDS_SHARED}:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table, also in .pytest_cache/skipped.txt: `make test` prints it last."""
    found = skips(config)
    rows = [f"{count:>7}  {reason}" for reason, count in found.most_common()] or ["      0  every test ran"]
    table = "\n".join(["skipped  why", *rows])
    if os.environ.get("NEOCOG_TEST_ALL") and set(found) - {NEEDS_SHARED}:
        table += "\nNEOCOG_TEST_ALL is set, so these skips fail the run."
    terminalreporter.section("skipped")
    terminalreporter.write_line(table)
    file = config.rootpath / ".pytest_cache" / "skipped.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text(table + "\n")


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
        pytest.skip(NEEDS_SHARED)
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
