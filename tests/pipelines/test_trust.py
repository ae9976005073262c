"""Which labels are taken, and why the others are not."""

import numpy as np
import pytest

from pipelines.artefacts import Split
from pipelines.labelled import Verdict
from pipelines.trust import allowed, golden_answers, judge
from tests.labelled import PARAMS, Sender

TAKEN, PENDING, HELD_BACK, MERGED = Verdict.TAKEN, Verdict.PENDING, Verdict.HELD_BACK, Verdict.MERGED
UNCAPPED = PARAMS.model_copy(update={"caller_share": 1.0})


@pytest.fixture
def send():
    return Sender()


def decided(send, params=UNCAPPED):
    """(verdict, reason) of each label, in the order in which they were sent."""
    judged = judge(send.feedback(), params).judged
    return [(Verdict(verdict), judged.texts[reason]) for verdict, reason in zip(judged.verdicts, judged.reasons)]  # noqa: B905


def test_one_persons_label_waits_for_another(send):
    send(1, 4, "ada")
    assert decided(send) == [(PENDING, "one person alone")]


def test_one_persons_label_is_enough_where_the_parameters_say_so(send):
    send(1, 4, "ada")
    send(2, 4)
    send(3, 4, "ada")
    send(3, 5, "bob")
    alone = UNCAPPED.model_copy(update={"one_is_enough": True})
    taken = (TAKEN, "one person, whom nobody contradicts")
    assert decided(send, alone) == [taken, taken, *[(PENDING, "no two known people agree")] * 2]
    send(2, 4)
    send(2, 5)
    assert decided(send, alone)[1] == (PENDING, "no two known people agree")


def test_two_people_who_agree_are_enough(send):
    for by, label in (("ada", 4), ("bob", 4), ("eve", 9)):
        send(1, label, by)
    assert decided(send) == [
        (TAKEN, "two people agree"), (MERGED, "another row of the picture is taken"), (MERGED, "outvoted"),
    ]  # fmt: skip


@pytest.mark.parametrize("people", [["ada", "ada"], [None, None], ["ada", None]])
def test_one_person_and_unknown_people_cannot_agree_with_themselves(send, people):
    for by in people:
        send(1, 4, by)
    assert TAKEN not in [verdict for verdict, _ in decided(send)]


def test_two_against_two_stay_pending(send):
    for by, label in (("ada", 4), ("bob", 4), ("eve", 9), ("dan", 9)):
        send(1, label, by)
    assert set(decided(send)) == {(PENDING, "no two known people agree")}


def test_a_person_may_change_a_label(send):
    send(1, 9, "ada")
    send(1, 4, "ada")
    send(1, 4, "bob")
    assert decided(send) == [
        (MERGED, "the person labelled the picture again"), (TAKEN, "two people agree"),
        (MERGED, "another row of the picture is taken"),
    ]  # fmt: skip


def test_the_same_pixels_of_two_predictions_are_one_picture(send):
    send(1, 4, "ada")
    send(2, 4, "bob", pixels=send.sent[0].pixels)
    assert [verdict for verdict, _ in decided(send)] == [TAKEN, MERGED]


def test_a_labeller_is_trusted_after_enough_golden_pictures(send):
    send(1, 4, "ada", role="labeller")
    send.golden_pictures("ada", right=PARAMS.golden_labels - 1)
    assert decided(send) == [(PENDING, "the labeller has labelled too few golden pictures")]
    send.golden_pictures("ada", right=1)
    assert decided(send) == [(TAKEN, "a trusted person")]


def test_a_caller_is_not_trusted_whatever_golden_pictures_say(send):
    send(1, 4, "ada", role="caller")
    send.golden_pictures("ada", right=PARAMS.golden_labels)
    assert decided(send) == [(PENDING, "one person alone")]


def test_whoever_reads_golden_pictures_wrongly_is_held_back_in_every_role(send):
    send.golden_pictures("ada", right=5, wrong=5)
    send(1, 4, "ada", role="labeller")
    send(1, 4, "bob")
    send(2, 4, "ada")
    wrongly = (HELD_BACK, "the person reads golden pictures wrongly")
    assert decided(send) == [wrongly, (PENDING, "one person alone"), wrongly]
    assert not judge(send.feedback(), PARAMS).people.trusted(b"ada")


def test_golden_pictures_of_an_unknown_model_count_for_nobody(send):
    send.golden_pictures("ada", right=3, wrong=1)
    name, label = send.golden[0]
    send.golden[0] = (name, label._replace(prediction_id="f" * 32))
    assert golden_answers(send.feedback()) == {b"ada": (2, 3)}


def test_a_trusted_person_overrules_two_who_agree(send):
    send.golden_pictures("ada", right=PARAMS.golden_labels)
    send(1, 9, "bob")
    send(1, 9, "eve")
    send(1, 4, "ada", role="labeller")
    assert decided(send) == [(MERGED, "outvoted"), (MERGED, "outvoted"), (TAKEN, "a trusted person")]


def test_a_trusted_person_who_finds_the_models_errors_is_not_suspicious(send):
    send.golden_pictures("dan", right=PARAMS.golden_labels)
    for number in range(100):
        send(number, number % 10, f"p{number % 5}")
    for number in range(100, 140):
        send(number, 4, "dan", role="labeller", predicted=9)
    outcome = judge(send.feedback(), UNCAPPED)
    assert outcome.suspects == []
    assert (outcome.judged.verdicts[100:] == TAKEN).all()


def test_trusted_people_who_contradict_each_other_decide_nothing(send):
    for by, label in (("ada", 4), ("bob", 9)):
        send.golden_pictures(by, right=PARAMS.golden_labels)
        send(1, label, by, role="labeller")
    send(1, 9, "eve")
    assert set(decided(send)) == {(PENDING, "trusted people contradict each other")}


def agreed(send, pictures, label=None, **columns):
    """Two people who agree label each of `pictures`."""
    for number in pictures:
        for by in ("ada", "bob"):
            send(number, number % 10 if label is None else label, by, **columns)


def test_what_the_model_is_sure_to_be_another_class_is_held_back_unless_a_trusted_person_said_it(send):
    agreed(send, range(100))
    agreed(send, [200], label=4, predicted=9, sure=0.99)
    agreed(send, [201], label=4, predicted=9, sure=0.6)
    send.golden_pictures("dan", right=PARAMS.golden_labels)
    send(202, 4, "dan", role="labeller", predicted=9, sure=0.99)
    outcome = judge(send.feedback(), UNCAPPED).judged
    verdicts = outcome.verdicts[200:].tolist()
    assert verdicts == [HELD_BACK, MERGED, TAKEN, MERGED, TAKEN]
    assert outcome.texts[outcome.reasons[200]] == "confident learning: the model is sure of another class"
    assert np.flatnonzero(outcome.flagged).tolist() == [200, 204]
    lenient = judge(send.feedback(), UNCAPPED.model_copy(update={"hold_contradicted": False})).judged
    assert lenient.verdicts[200:].tolist() == [TAKEN, MERGED, TAKEN, MERGED, TAKEN]
    assert np.array_equal(lenient.flagged, outcome.flagged)


def test_a_suspicious_persons_labels_are_held_back(send):
    for person in range(6):
        for i in range(20):
            send(100 * person + i, i % 10, f"p{person}")
            send(100 * person + i, i % 10, "bob")
    for i in range(20):
        send(i, (i + 1) % 10, "eve", predicted=i % 10)
    outcome = judge(send.feedback(), UNCAPPED)
    assert {(s.kind, s.who) for s in outcome.suspects} == {("person", "eve")}
    judged = outcome.judged
    held = np.flatnonzero(judged.verdicts == HELD_BACK)
    assert held.tolist() == list(range(240, 260))
    assert judged.texts[judged.reasons[240]].startswith("suspicious person: ")
    assert (judged.verdicts == TAKEN).sum() == 120


def test_a_callers_share_is_bounded(send):
    for caller, count in (("big", 50), *((f"c{i}", 3) for i in range(10))):
        start = 1000 * (len(send.sent) + 1)
        agreed(send, range(start, start + count), caller=caller)
    judged = judge(send.feedback(), PARAMS).judged
    rows = send.feedback().rows
    taken = rows["caller"][judged.verdicts == TAKEN]
    assert (taken == b"big").sum() == 3
    assert (taken == b"big").sum() <= PARAMS.caller_share * len(taken)
    assert len(taken) == 33
    assert np.flatnonzero(judged.verdicts == TAKEN)[:3].tolist() == [0, 2, 4]  # the oldest stay
    assert {judged.texts[reason] for reason in judged.reasons[judged.verdicts == HELD_BACK]} == {
        "over the caller's share"
    }


def test_a_trusted_persons_labels_are_not_capped(send):
    send.golden_pictures("dan", right=PARAMS.golden_labels)
    for number in range(30):
        send(number, number % 10, "dan", role="labeller", caller="big")
    assert [verdict for verdict, _ in decided(send, PARAMS)] == [TAKEN] * 30


@pytest.mark.parametrize(
    ("counts", "others", "share", "most"),
    [([100, 5, 5], 0, 0.5, 10), ([100], 0, 0.1, 0), ([100], 90, 0.1, 10), ([3, 3], 0, 0.5, 3), ([], 0, 0.1, 0),
     ([10, 10], 0, 0.4, 0), ([7, 1], 100, 1.0, 7)],
)  # fmt: skip
def test_the_most_of_a_caller_is_the_greatest_that_keeps_the_share(counts, others, share, most):
    counts = np.array(counts, np.int64)
    assert allowed(counts, others, share) == most
    fits = [m for m in range(counts.max(initial=0) + 1) if m <= share * (others + np.minimum(counts, m).sum())]
    assert most == max(fits)


def test_a_share_of_the_callers_is_held_out_whole(send):
    for caller in range(200):
        for i in range(2):
            send(1000 * caller + i, 1, "ada", caller=f"c{caller}")
    splits = judge(send.feedback(), PARAMS).judged.splits.reshape(200, 2)
    assert (splits[:, 0] == splits[:, 1]).all()
    assert 0.1 < (splits[:, 0] == Split.TEST).mean() < 0.3
    assert set(splits.ravel().tolist()) == {Split.TRAIN, Split.TEST}


def test_a_picture_that_a_held_out_caller_sent_too_is_held_out(send):
    for caller in range(200):
        send(caller, 1, "ada", caller=f"c{caller}")
    splits = judge(send.feedback(), PARAMS).judged.splits
    held, free = int(np.argmax(splits == Split.TEST)), int(np.argmax(splits == Split.TRAIN))
    send(999, 1, "ada", caller=f"c{held}", pixels=send.sent[free].pixels)
    splits = judge(send.feedback(), PARAMS).judged.splits
    assert splits[free] == splits[-1] == Split.TEST


def test_whoever_is_unknown_is_judged_by_the_labeller_then_by_the_prediction(send):
    for number in range(200):
        send(number, 1)
        send(1000 + number, 1, "ada")
    splits = judge(send.feedback(), PARAMS).judged.splits.reshape(200, 2)
    assert 0.1 < (splits[:, 0] == Split.TEST).mean() < 0.3
    assert len(set(splits[:, 1].tolist())) == 1


def test_no_labels_are_no_problem(send):
    outcome = judge(send.feedback(), PARAMS)
    assert (len(outcome.judged.verdicts), outcome.suspects) == (0, [])
