"""The file of people's labels."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.labelled import Feedback, hard_cases
from pipelines.stage import StageError
from pipelines.trust import judge
from tests.labelled import CLASSES, PARAMS, Sender


@pytest.fixture
def feedback():
    """Twelve labels by two people who agree, and some golden pictures."""
    send = Sender()
    for number in range(6):
        for by in ("ada", "bob"):
            send(number, number, by, predicted=9 if number in (2, 4, 5) else None, sure=0.5)
    send.golden_pictures("ada", right=3)
    made = send.feedback()
    return made.with_judged(judge(made, PARAMS.model_copy(update={"caller_share": 1.0})).judged)


def test_a_file_is_loaded_as_it_was_saved_and_not_written_twice(tmp_path, feedback):
    path = tmp_path / "feedback.npz"
    assert feedback.save(path)
    before = path.stat()
    assert not feedback.save(path)
    assert path.stat() == before
    loaded = Feedback.load(path)
    for name in ("rows", "pixels", "probabilities", "golden"):
        assert getattr(loaded, name).tobytes() == getattr(feedback, name).tobytes()
    assert (loaded.classes, loaded.versions) == (feedback.classes, feedback.versions)
    assert loaded.judged.texts == feedback.judged.texts
    assert loaded.cursor == feedback.cursor == f"{15:032x}"
    assert not loaded.save(path)


def test_an_empty_file_has_no_cursor(tmp_path):
    Feedback.empty(CLASSES).save(tmp_path / "feedback.npz")
    loaded = Feedback.load(tmp_path / "feedback.npz")
    assert (loaded.cursor, len(loaded.rows), len(loaded.taken)) == ("", 0, 0)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "feedback.npz").write_bytes(content)
    with pytest.raises(StageError, match="is not a file that feedback wrote"):
        Feedback.load(tmp_path / "feedback.npz")


def reversed_rows(feedback):
    return {"rows": feedback.rows[::-1]}


def with_label_of_no_class(feedback):
    rows = feedback.rows.copy()
    rows["label"][3] = 10
    return {"rows": rows}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda feedback: {"pixels": feedback.pixels[1:]}, "pixels has another shape or type than 12 labels"),
        (lambda feedback: {"probabilities": feedback.probabilities.astype(np.float64)}, "probabilities has another"),
        (lambda feedback: {"classes": CLASSES[:5]}, "probabilities has another shape or type than 12 labels of 5"),
        (reversed_rows, "the ids of its labels do not ascend"),
        (with_label_of_no_class, "a label is outside 0 to 9"),
        (lambda feedback: {"judged": replace(feedback.judged, texts=())}, "a reason is missing"),
        (
            lambda feedback: {"judged": replace(feedback.judged, splits=feedback.judged.splits[1:])},
            "splits has another",
        ),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path, feedback, change, problem):
    replace(feedback, **change(feedback)).save(tmp_path / "feedback.npz")
    with pytest.raises(StageError, match=f"is damaged: {problem}"):
        Feedback.load(tmp_path / "feedback.npz")


def test_the_hard_cases_are_the_oldest_that_a_model_read_wrongly(feedback):
    taken = feedback.taken
    assert taken.tolist() == [0, 2, 4, 6, 8, 10]
    assert hard_cases(feedback, taken, 10).tolist() == [4, 8, 10]
    assert hard_cases(feedback, taken[::-1], 2).tolist() == [4, 8]
    assert hard_cases(feedback, taken[:2], 2).tolist() == []
