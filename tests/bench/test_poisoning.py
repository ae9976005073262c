"""Which flipped labels get through, and what the measurement prints."""

import numpy as np
import pytest
import torch
from torch import nn

from bench import poisoning
from bench.poisoning import ATTACKS, Sent, believed, rows_of
from model.labels import DIGITS
from pipelines.feedback import extended
from pipelines.labelled import Feedback
from pipelines.trust import FeedbackParams, judge
from tests.conftest import REPOSITORY

COUNT = 2_000
TRUTH = np.random.default_rng(1).permutation(np.arange(COUNT) % 10).astype(np.uint8)


class Reader(nn.Module):
    """Reads the digit that the first pixel of a picture names; it misreads those with a bright last pixel."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        named, misread = (255 * images[:, 0, 0, 0]).round().long(), images[:, 0, 27, 27] > 0.97
        return 6 * nn.functional.one_hot((named + misread.long()) % 10, 10).float()


def pictures():
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 28, 28), np.uint8)
    pixels[:, 0, 0] = TRUTH
    return pixels


def attacked(name):
    rng = np.random.default_rng(0)
    sent = Sent.honest(TRUTH, rng)
    ATTACKS[name](sent, rng)
    return sent


def wrong(feedback):
    """How many of the taken labels are wrong."""
    truth = [TRUTH[int(row["prediction_id"], 16)] for row in feedback.rows[feedback.taken]]
    return int((feedback.rows["label"][feedback.taken] != truth).sum())


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "none"])
def test_an_attack_flips_a_twentieth_of_all_labels(name):
    flipped = attacked(name).label != TRUTH[:, None]
    assert 0.04 < flipped.mean() < 0.065
    if name.startswith("4 to 9"):
        assert (flipped[TRUTH == 4]).mean() > 0.4
        assert (flipped[TRUTH != 4]).mean() < 0.01


@pytest.mark.parametrize(
    ("name", "most"),
    [("none", 0), ("random, by everybody", 2), ("random, by one person", 0), ("4 to 9, by everybody", 30),
     ("4 to 9, by one person", 0), ("4 to 9, by two who agree", 0)],
)  # fmt: skip
def test_hardly_any_flipped_label_is_taken(name, most):
    params = FeedbackParams.load(REPOSITORY / "params.yaml")
    everything = extended(Feedback.empty(DIGITS), rows_of(attacked(name), pictures(), Reader()), [], "v")
    outcome = judge(everything, params)
    judged = everything.with_judged(outcome.judged)
    assert len(judged.taken) > 0.85 * COUNT
    assert wrong(judged) <= most
    if name != "none":
        assert wrong(believed(everything, outcome)) > 0.04 * COUNT
    assert {suspect.who for suspect in outcome.suspects} == {
        "random, by one person": {"eve"}, "4 to 9, by one person": {"eve"},
        "4 to 9, by two who agree": {"eve", "mallory"},
    }.get(name, set())  # fmt: skip


@pytest.mark.slow
def test_every_attack_is_a_line(measure, monkeypatch):
    monkeypatch.setattr(poisoning, "ATTACKS", {name: ATTACKS[name] for name in ("none", "random, by everybody")})
    monkeypatch.setattr(poisoning, "DRAWN", poisoning.DRAWN | {"digits": 300, "outliers": 30, "validation": 50})
    monkeypatch.setattr(poisoning, "HELD_OUT", 100)
    ran = measure("poisoning", "--images", 2560, "--pictures", 300, "--seeds", 1)
    assert ran.code == 0
    first, _, _, _, *lines = ran.out.splitlines()
    assert first.startswith("the first model reads ")
    assert [line.split(" | ")[:2] for line in lines] == [
        ["| none", "judged"], ["| random, by everybody", "judged"], ["| random, by everybody", "believed"],
    ]  # fmt: skip
