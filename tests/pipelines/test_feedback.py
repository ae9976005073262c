"""From a real journal to the file of labels: incremental, idempotent, and killed on the way."""

import asyncio
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from journal.ids import golden_id, new_id
from journal.rows import LabelRow, PredictionRow
from journal.writer import Journal
from pipelines import paths
from pipelines.feedback import main
from pipelines.labelled import Feedback, Verdict
from pipelines.stage import StageError
from tests.bundles import ALPHABET, LETTERS, make_bundle
from tests.labelled import VERSION, picture


def prediction(number, label, *, caller="c", classes=10):
    """The model's answer `label`, of which it is sure, for the picture `number`."""
    probabilities = np.full(classes, 0.01, "<f4")
    probabilities[label] = 0.91
    return PredictionRow(new_id(), time.time(), VERSION, label, 0.91, probabilities.tobytes(), False,
                         picture(number).tobytes(), None, caller)  # fmt: skip


class Traffic:
    """A journal in the current folder, which is written as the service writes it."""

    def __init__(self, url):
        self._url = url

    def keep(self, *rows, labels=()):
        """Keeps predictions and labels."""
        journal = Journal(self._url, 10_000)
        for row in rows:
            journal.put(row)
        for label in labels:
            asyncio.run(journal.feedback(label))
        journal.close(within=60)

    def agreed(self, count, *, start=0, callers=50):
        """Predictions that two people labelled, as the model read them."""
        rows = [prediction(start + i, i % 10, caller=f"c{i % callers}") for i in range(count)]
        labels = [LabelRow(row.id, row.digit, by) for row in rows for by in (f"a{row.caller}", f"b{row.caller}")]
        self.keep(*rows, labels=labels)
        return rows


@pytest.fixture
def traffic(in_folder, monkeypatch):
    monkeypatch.setenv("NEOCOG_JOURNAL", f"sqlite:///{in_folder}/journal.db")
    monkeypatch.setattr(sys, "argv", ["feedback"])
    make_bundle(paths.CHAMPION)
    return Traffic(f"sqlite:///{in_folder}/journal.db")


def test_every_label_of_a_prediction_is_a_row_with_where_it_comes_from(traffic, capsys):
    row = prediction(1, 4, caller="9f" * 8)
    labels = [
        LabelRow(row.id, 7, by="ad" * 8, role="labeller", asked="audit", seconds=2.5, blind=True), LabelRow(row.id, 4),
        LabelRow("f" * 32, 3),
    ]  # fmt: skip
    traffic.keep(row, labels=labels)
    main()
    feedback = Feedback.load(paths.FEEDBACK)
    first, second = feedback.rows
    assert first["prediction_id"].decode() == second["prediction_id"].decode() == row.id
    assert (first["label"], first["by"], first["role"], first["asked"]) == (7, b"ad" * 8, b"labeller", b"audit")
    assert (first["seconds"], first["blind"]) == (2.5, 1)
    assert (first["caller"], first["model_version"], first["predicted"]) == (b"9f" * 8, VERSION.encode(), 4)
    assert (second["label"], second["by"], second["role"], second["asked"]) == (4, b"", b"caller", b"volunteered")
    assert np.isnan(second["seconds"])
    assert second["blind"] == -1
    assert np.array_equal(feedback.pixels, np.stack([picture(1)] * 2))
    assert feedback.probabilities[0].argmax() == 4
    assert feedback.probabilities[0].sum() == pytest.approx(1)
    assert "feedback: 0 labels to train on, 0 to judge with, of 2 (report:" in capsys.readouterr().out


def test_the_report_says_what_became_of_the_labels_and_why(traffic, capsys):
    traffic.agreed(120)
    row = prediction(900, 3)
    traffic.keep(row, labels=[LabelRow(row.id, 3, "alone")])
    main()
    found = json.loads(paths.FEEDBACK_REPORT.read_text())
    assert found["labels"] == 241
    assert {row["reason"]: row["labels"] for row in found["verdicts"]} == {
        "two people agree": 120, "another row of the picture is taken": 120, "one person alone": 1,
    }  # fmt: skip
    assert found["taken"]["all"] == found["taken"]["to train"] + found["taken"]["to judge"] == 120
    assert found["taken"]["to judge"] > 0
    assert found["taken"]["per class"] == dict.fromkeys("0123456789", 12)
    assert "     120  taken: two people agree\n" in capsys.readouterr().out


def test_a_run_without_new_labels_changes_no_byte_and_new_ones_are_added(traffic, capsys):
    traffic.agreed(30)
    main()
    before = paths.FEEDBACK.stat()
    capsys.readouterr()
    main()
    assert paths.FEEDBACK.stat() == before
    assert "; nothing new" in capsys.readouterr().out
    first = Feedback.load(paths.FEEDBACK)
    traffic.agreed(10, start=500)
    main()
    second = Feedback.load(paths.FEEDBACK)
    assert len(second.rows) == 80
    assert second.rows[:60].tobytes() == first.rows.tobytes()
    assert len(np.unique(second.rows["id"])) == 80


def test_in_two_runs_or_in_one_the_file_is_the_same(traffic):
    traffic.agreed(30)
    main()
    traffic.agreed(10, start=500)
    main()
    in_two = paths.FEEDBACK.read_bytes()
    paths.FEEDBACK.unlink()
    main()
    assert paths.FEEDBACK.read_bytes() == in_two


def test_a_prediction_that_comes_after_its_label_is_not_lost(traffic):
    late, row = prediction(1, 4), prediction(2, 5)
    traffic.keep(row, labels=[LabelRow(late.id, 4), LabelRow(row.id, 5)])
    main()
    assert len(Feedback.load(paths.FEEDBACK).rows) == 1
    traffic.keep(late)
    main()
    feedback = Feedback.load(paths.FEEDBACK)
    assert sorted(name.decode() for name in feedback.rows["prediction_id"]) == sorted([late.id, row.id])
    assert [feedback.pixels[i].tobytes() for i in feedback.rows["prediction_id"].argsort()] == [
        row.image for row in sorted([late, row])
    ]


def test_golden_pictures_make_a_labeller_trusted(traffic):
    version = json.loads((paths.CHAMPION / "manifest.json").read_text())["version"]
    row = prediction(1, 4)
    golden = [LabelRow(golden_id(version, place), place, "dan", "labeller", "golden") for place in range(5)]
    traffic.keep(row, labels=[*golden, LabelRow(row.id, 9, "dan", "labeller", "uncertain")])
    main()
    feedback = Feedback.load(paths.FEEDBACK)
    assert feedback.judged.verdicts.tolist() == [Verdict.TAKEN]
    assert len(feedback.golden) == 5
    found = json.loads(paths.FEEDBACK_REPORT.read_text())
    assert found["golden"] == {"dan": {"right": 5, "labelled": 5, "trusted": True}}


def test_what_fits_other_classes_is_left_out(traffic):
    letters = prediction(1, 3, classes=24)
    row = prediction(2, 4)
    traffic.keep(letters, row, labels=[LabelRow(letters.id, 3), LabelRow(row.id, 10), LabelRow(row.id, 5)])
    main()
    assert Feedback.load(paths.FEEDBACK).rows["label"].tolist() == [5]


def test_labels_of_other_classes_are_not_mixed_with_these(traffic):
    traffic.agreed(3)
    main()
    make_bundle(paths.CHAMPION, labels=ALPHABET, images=LETTERS)
    with pytest.raises(StageError, match=r"data/feedback.npz has labels of the classes 0, 1, .*: move the file away"):
        main()


def test_a_missing_journal_is_one_line_and_is_not_made(traffic, in_folder, monkeypatch):
    with pytest.raises(StageError, match=r"there is no journal .*/journal\.db; NEOCOG_JOURNAL names it"):
        main()
    assert not (in_folder / "journal.db").exists()
    monkeypatch.setenv("NEOCOG_JOURNAL", "off")
    with pytest.raises(StageError, match="there is no journal"):
        main()
    (in_folder / "journal.db").touch()
    monkeypatch.setenv("NEOCOG_JOURNAL", f"sqlite:///{in_folder}/journal.db")
    with pytest.raises(StageError, match="the journal cannot be read: no such table"):
        main()


def test_a_missing_bundle_is_one_line(traffic, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["feedback", "--bundle", "nowhere"])
    with pytest.raises(StageError, match="no bundle at nowhere"):
        main()


KILL = "lambda *_: os.kill(os.getpid(), signal.SIGKILL)"
MOMENTS = {
    "while it reads": f"queries.unpack = {KILL}",
    "with half a file": (
        "whole = Path.write_bytes\n"
        f"Path.write_bytes = lambda path, data: (whole(path, data[: len(data) // 2]), ({KILL})())"
    ),
    "before the file has its place": f"Path.replace = {KILL}",
    "after that": f"stage.write_json = {KILL}",
}


@pytest.mark.slow
def test_it_may_be_killed_at_any_moment(traffic):
    """SIGKILL, at four moments. After each the file is whole or as before; in the end it is as without a kill."""
    for number, (moment, code) in enumerate(MOMENTS.items()):
        traffic.agreed(20, start=1000 * number)
        before = paths.FEEDBACK.read_bytes() if paths.FEEDBACK.exists() else None
        program = (
            "import os, runpy, signal\nfrom pathlib import Path\nfrom journal import queries\n"
            f"from pipelines import stage\n{code}\n"
            "runpy.run_module('pipelines.feedback', run_name='__main__', alter_sys=True)"
        )
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ)
        assert ran.returncode == -9, (moment, ran.stderr)
        now = paths.FEEDBACK.read_bytes() if paths.FEEDBACK.exists() else None
        assert (now == before) == (moment != "after that"), moment
        if moment == "before the file has its place":
            main()
            assert len(Feedback.load(paths.FEEDBACK).rows) == 3 * 40
    assert len(Feedback.load(paths.FEEDBACK).rows) == 4 * 40
    main()
    after_kills = paths.FEEDBACK.read_bytes()
    paths.FEEDBACK.unlink()
    main()
    assert paths.FEEDBACK.read_bytes() == after_kills
    assert len(Feedback.load(paths.FEEDBACK).taken) == 80
