"""The stage that prepares people's labels."""

import numpy as np
import pytest

from pipelines import paths
from pipelines.artefacts import Prepared, Split
from pipelines.labelled import Feedback
from pipelines.labels import labels, main
from pipelines.stage import StageError
from pipelines.trust import judge
from tests.labelled import CLASSES, PARAMS, Sender, picture


def prepared(*images, classes=CLASSES):
    """`images` as the test split."""
    count = len(images)
    splits = np.full(count, Split.TEST, np.uint8)
    images = np.stack([picture(0), *images])[1:]
    return Prepared(images, np.zeros(count, np.uint8), classes, splits, np.arange(count))


@pytest.fixture(scope="module")
def feedback():
    """200 pictures that are taken, each from another caller: about 40 of them are held out."""
    send = Sender()
    send.golden_pictures("dan", right=PARAMS.golden_labels)
    for number in range(200):
        send(number, number % 10, "dan", role="labeller", caller=f"c{number}")
        send(1000 + number, 3, "eve")
    made = send.feedback()
    return made.with_judged(judge(made, PARAMS).judged)


def test_the_taken_labels_are_chosen_in_their_splits(feedback):
    chosen = labels(feedback, prepared(), 100)
    assert chosen.rows.tolist() == feedback.taken.tolist()
    assert np.array_equal(chosen.images, feedback.pixels[chosen.rows])
    assert chosen.labels.tolist() == [number % 10 for number in range(200)]
    assert np.array_equal(chosen.splits, feedback.judged.splits[chosen.rows])
    assert len(chosen.of(Split.TRAIN)[0]) + len(chosen.of(Split.TEST)[0]) == 200


def test_too_few_are_not_trained_on_but_judge(feedback):
    train, test = (len(labels(feedback, prepared(), 1).of(split)[0]) for split in (Split.TRAIN, Split.TEST))
    enough, few = labels(feedback, prepared(), train), labels(feedback, prepared(), train + 1)
    assert [len(enough.of(split)[0]) for split in (Split.TRAIN, Split.TEST)] == [train, test]
    assert [len(few.of(split)[0]) for split in (Split.TRAIN, Split.TEST)] == [0, test]


def test_a_picture_of_the_projects_own_data_is_left_out(feedback):
    chosen = labels(feedback, prepared(picture(7), picture(8)), 1)
    assert len(chosen.images) == 198
    assert not any(np.array_equal(image, picture(7)) for image in chosen.images)


def test_labels_of_other_classes_are_refused(feedback):
    with pytest.raises(StageError, match=r"data/feedback.npz has labels of the classes 0, 1, .*; the data have A, B"):
        labels(feedback, prepared(classes=("A", "B")), 1)


def test_without_labels_an_empty_file_is_made(in_folder, capsys):
    prepared().save(paths.PREPARED)
    main()
    assert len(Feedback.load(paths.FEEDBACK).rows) == len(Prepared.load(paths.LABELS).images) == 0
    said = "labels: 0 to train on and 0 to judge with, of 0 that are taken; fewer than 100 are not trained on\n"
    assert capsys.readouterr().out == said


def test_an_empty_file_takes_the_classes_of_the_data(in_folder):
    prepared(classes=("A", "B")).save(paths.PREPARED)
    Feedback.empty(CLASSES).save(paths.FEEDBACK)
    main()
    assert Feedback.load(paths.FEEDBACK).classes == Prepared.load(paths.LABELS).classes == ("A", "B")


def test_the_file_that_feedback_wrote_stays_as_it_is(in_folder, feedback):
    prepared().save(paths.PREPARED)
    feedback.save(paths.FEEDBACK)
    before = paths.FEEDBACK.read_bytes()
    main()
    assert paths.FEEDBACK.read_bytes() == before
    assert len(Prepared.load(paths.LABELS).of(Split.TRAIN)[0]) >= 100
