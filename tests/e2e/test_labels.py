"""New labels of people run again what depends on them, in a real clone."""

import shutil

import pytest

from pipelines.artefacts import Prepared, Split
from pipelines.labelled import Feedback
from pipelines.trust import judge
from tests.clones import Clone, stages_run
from tests.labelled import PARAMS, Sender

pytestmark = pytest.mark.slow


def file_of(path, count):
    """`count` pictures, each of another caller, labelled by a trusted person: as `pipelines.feedback` writes them."""
    send = Sender()
    send.golden_pictures("dan", right=PARAMS.golden_labels)
    for number in range(count):
        send(number, number % 10, "dan", role="labeller", caller=f"c{number}")
    made = send.feedback()
    made.with_judged(judge(made, PARAMS).judged).save(path)


def test_dvc_sees_new_labels_keeps_them_and_brings_old_ones_back(tmp_path):
    clone = Clone(tmp_path / "clone")
    file, prepared = clone.folder / "data" / "feedback.npz", clone.folder / "data" / "labels.npz"
    first = clone.repro("labels")
    assert first.returncode == 0, first.stderr
    assert stages_run(first)[-1] == "labels"
    assert len(Feedback.load(file).rows) == 0
    assert stages_run(clone.repro("labels")) == []
    for count in (200, 300):
        file_of(file, count)
        sent = file.read_bytes()
        assert "modified" in clone.run("dvc", "status", "labels").stdout
        assert stages_run(clone.repro("labels")) == ["labels"]
        assert file.read_bytes() == sent
        assert len(Prepared.load(prepared).of(Split.TRAIN)[0]) > count / 2
        shutil.copy2(clone.folder / "dvc.lock", tmp_path / f"{count}.lock")
    shutil.copy2(tmp_path / "200.lock", clone.folder / "dvc.lock")
    assert clone.run("dvc", "checkout", "labels").returncode == 0
    assert (len(Feedback.load(file).rows), len(Prepared.load(prepared).images)) == (200, 200)
    file_of(file, 300)  # DVC has seen this file before; it must not put the one of the lock back
    assert stages_run(clone.repro("labels")) == ["labels"]
    assert len(Prepared.load(prepared).images) == 300
