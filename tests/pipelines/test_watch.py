"""`python -m pipelines.watch`: by hand, for a scheduler, and beside the service."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import numpy as np
import pytest
import yaml

from model import bundle
from pipelines import watch
from pipelines.stage import StageError
from tests.bundles import linear_model, make_bundle
from tests.conftest import REPOSITORY
from tests.pipelines.watching.traffic import noisy, predicted, put, said, watched_bundle
from tests.waiting import until

pytestmark = pytest.mark.slow


def journal_of(url, predictor, *, wrong=0.0, noise=40, count=300, seed=2):
    """Predictions with a label for every second one; a share of `wrong` labels say that the model erred."""
    rng = np.random.default_rng(seed)
    pixels, _ = noisy(count, rng, noise)
    rows = predicted(predictor, pixels, rng)
    errs = rng.random(count) < wrong
    put(url, rows, [said(row, (row.digit + err) % 10, rng) for row, err in zip(rows, errs, strict=True)][::2])
    return rows


@pytest.fixture
def place(in_folder, monkeypatch):
    """A folder with a bundle, a params.yaml that learns nothing first, and a journal's URL in the environment."""
    params = yaml.safe_load((in_folder / "params.yaml").read_text())
    params["watch"] |= {"baseline": 0, "settle": 0, "late": 0}
    (in_folder / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.setenv("NEOCOG_JOURNAL", "sqlite:///journal.db")
    return in_folder


@pytest.fixture
def predictor(place):
    return watched_bundle(place / "bundle")


def run(monkeypatch, *arguments):
    """The exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["watch", "--bundle", "bundle", *arguments])
    with pytest.raises(SystemExit) as ended:
        watch.main()
    return ended.value.code


def summary(place):
    return json.loads((place / "out" / "watch" / "watch.json").read_text())


@pytest.mark.parametrize(
    ("wrong", "noise", "arguments", "code", "status"),
    [
        (0.0, 40, (), 0, "steady"),
        (0.5, 40, (), 3, "harm"),
        (0.0, 150, (), 0, "risk"),
        (0.0, 150, ("--strict",), 3, "risk"),
    ],
)
def test_the_exit_code_says_whether_there_is_harm(
    place, predictor, monkeypatch, capsys, wrong, noise, arguments, code, status
):
    journal_of("sqlite:///journal.db", predictor, wrong=wrong, noise=noise)
    assert run(monkeypatch, *arguments) == code
    assert summary(place)["status"] == status
    version = predictor.manifest.version
    assert capsys.readouterr().out.startswith(f"{status}: 300 predictions and 150 audit labels of model {version}; ")
    assert sorted(path.name for path in (place / "out" / "watch").iterdir()) == [
        "metrics.prom", "report.html", "watch.json"
    ]  # fmt: skip


def test_an_acknowledged_alarm_ends_and_rings_again_only_for_what_comes_later(place, predictor, monkeypatch):
    journal_of("sqlite:///journal.db", predictor, wrong=0.5)
    assert run(monkeypatch) == 3
    assert run(monkeypatch, "--acknowledge") == 0
    assert summary(place)["predictions"] == summary(place)["labels"] == 0
    assert run(monkeypatch) == 0


def test_a_baseline_is_learned_first(place, predictor, monkeypatch):
    journal_of("sqlite:///journal.db", predictor)
    assert run(monkeypatch, "--baseline", "1000") == 0
    assert summary(place)["status"] == "learning"
    assert set(summary(place)["evidence"].values()) == {0}


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda place: None, "there is no journal at journal.db; the service makes it"),
        (lambda place: shutil.rmtree(place / "bundle"), "there is no bundle at bundle: name one with --bundle"),
        (lambda place: (place / "bundle" / "model.onnx").unlink(), "no bundle at bundle: model.onnx is missing"),
        (lambda place: os.environ.update(NEOCOG_JOURNAL="off"), "NEOCOG_JOURNAL is 'off': there is no journal"),
        (lambda place: (place / "journal.db").write_text("no database"), "the journal cannot be read: file is not a"),
    ],
)
def test_what_is_missing_is_said_in_one_line(place, predictor, monkeypatch, break_it, words):
    monkeypatch.setattr(sys, "argv", ["watch", "--bundle", "bundle"])
    break_it(place)
    with pytest.raises(StageError, match=f"^{words}") as error:
        watch.main()
    assert "\n" not in str(error.value)


def test_a_parameter_given_as_an_argument_is_checked_too(place, predictor, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["watch", "--settle", "-1"])
    with pytest.raises(StageError, match=r"watch\.settle is -1\.0, allowed is: greater than or equal to 0"):
        watch.main()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def following(place, *arguments):
    """The command in a process of its own, and the lines that it has said."""
    command = [sys.executable, "-m", "pipelines.watch", "--bundle", "bundle", "--follow", "--every", "0.1", *arguments]
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with (place / "said").open("w") as file, subprocess.Popen(command, cwd=place, env=env, stderr=file) as process:
        try:
            yield lambda: (place / "said").read_text().splitlines()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def get(address):
    with urllib.request.urlopen(address, timeout=30) as response:
        return response.read().decode()


def test_it_follows_the_journal_and_the_bundle_until_sigterm(place, predictor):
    def seen():
        return summary(place) if (place / "out" / "watch" / "watch.json").exists() else {"predictions": 0}

    port = free_port()
    with following(place, "--port", str(port)) as lines:
        until(lambda: lines() == ["watch: there is no journal at journal.db; the service makes it; trying on"])
        assert "neocog_watch_last_success_timestamp_seconds 0.0" in get(f"http://127.0.0.1:{port}/metrics")
        rows = journal_of("sqlite:///journal.db", predictor)
        until(lambda: seen()["predictions"] == 300)
        until(lambda: lines()[1:] == ["watch: the journal is read again"])
        version = predictor.manifest.version
        assert f'neocog_watched_predictions_total{{model_version="{version}"}} 300.0' in get(
            f"http://127.0.0.1:{port}/metrics"
        )
        assert version in get(f"http://127.0.0.1:{port}/")
        assert json.loads(get(f"http://127.0.0.1:{port}/watch.json"))["predictions"] == 300
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"http://127.0.0.1:{port}/journal.db")
        new = make_bundle(place / "new", linear_model(10.0))
        bundle.replace(place / "new", place / "bundle")
        put("sqlite:///journal.db", [rows[0]._replace(id="f" * 31 + "0", model_version=new.version)])
        until(lambda: seen().get("model_version") == new.version)


def test_a_database_that_is_away_is_reported_once(place, postgres, database, predictor, monkeypatch):
    monkeypatch.setenv("NEOCOG_JOURNAL", database)
    put(database)
    with following(place) as lines:
        until((place / "out" / "watch" / "watch.json").exists)
        postgres.stop()
        until(lambda: len(lines()) == 1)
        postgres.start()
        until(lambda: len(lines()) == 2)
        assert lines()[0].endswith("; trying on")
        assert lines()[1] == "watch: the journal is read again"
        journal_of(database, predictor)
        until(lambda: summary(place)["predictions"] == 300)
