"""Measures what wrong labels cost: a model is trained on people's labels, of which 5 % are flipped.

    python -m bench.poisoning [--images 24000] [--pictures 2000] [--seeds 3]        (about 10 minutes on one idle core)

A first model is trained on the default data, without some styles of writing. People send drawn pictures in all styles.
Each picture has two labels, of its sender and of another person; a few are honestly wrong. Labels are flipped at
random, or from 4 to 9. They go through `pipelines.feedback` and the stage `labels`, as in production ("judged"), or the
newest one of each picture is trained on ("believed"). Every model is judged on other drawn pictures, with true labels.
A line compares with the same training without flipped labels.
"""

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.random import Generator
from scipy.special import softmax
from tqdm import tqdm

from bench import command
from journal.queries import SentLabel
from journal.rows import LabelRow
from model.canonical import Pixels
from model.labels import DIGITS
from model.networks.cnn import CNN
from model.synthetic import CAREFUL, write
from model.synthetic.styles import without
from model.training import Group, logits, train
from pipelines import ingest
from pipelines.artefacts import Labels, Prepared, Split, validation
from pipelines.feedback import extended
from pipelines.labelled import Feedback, Verdict
from pipelines.labels import LabelsParams, labels
from pipelines.prepare import PrepareParams, prepare, split
from pipelines.synthesize import SynthesizeParams, synthesize
from pipelines.train import TrainParams, groups, recipe
from pipelines.trust import FeedbackParams, Outcome, judge, same_pictures

UNSEEN: Final = (
    "slashed",
    "with a foot",
    "footed",
    "flag",
    "crossed",
    "serif",
)  # words for styles
DRAWN: Final[dict[str, object]] = {"digits": 8_000, "outliers": 800, "validation": 800, "without": UNSEEN}
PEOPLE: Final = 60
DAYS: Final = 14
FLIPPED: Final = 0.05  # share of all labels
HONEST_ERRORS: Final = 0.005  # share of the others
HELD_OUT: Final = 8_000  # pictures to judge the models with
VERSION: Final = "0" * 12


@dataclass
class Sent:
    """Labels of pictures, two of each: n x 2 arrays."""

    truth: Labels  # n
    people: np.ndarray[tuple[int, int], np.dtype[np.str_]]
    label: np.ndarray[tuple[int, int], np.dtype[np.int64]]

    @classmethod
    def honest(cls, truth: Labels, rng: Generator) -> "Sent":
        count = len(truth)
        senders = np.arange(count) % PEOPLE
        others = (senders + rng.integers(1, PEOPLE, count)) % PEOPLE
        people = np.stack([senders, others], axis=1).astype(str)
        sent = cls(truth, people, np.repeat(truth.astype(np.int64)[:, None], 2, axis=1))
        _flip_at_random(sent, rng.random(sent.label.shape) < HONEST_ERRORS, rng)
        return sent


Attack: TypeAlias = Callable[[Sent, Generator], None]


def _flip_at_random(sent: Sent, which: np.ndarray[tuple[int, int], np.dtype[np.bool_]], rng: Generator) -> None:
    sent.label[which] = (sent.label[which] + rng.integers(1, 10, which.sum())) % 10


def _some(among: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.intp]], share: float, rng: Generator) -> list[int]:
    """A random part of `among`, which is `share` of them."""
    chosen: list[int] = rng.permutation(among)[: round(share * len(among))].tolist()
    return chosen


def nobody(sent: Sent, rng: Generator) -> None:
    """Flips nothing."""


def random_everybody(sent: Sent, rng: Generator) -> None:
    _flip_at_random(sent, rng.random(sent.label.shape) < FLIPPED, rng)


def random_one(sent: Sent, rng: Generator) -> None:
    rows = _some(range(len(sent.truth)), 2 * FLIPPED, rng)
    sent.people[rows, 1] = "eve"
    sent.label[rows, 1] = (sent.truth[rows] + rng.integers(1, 10, len(rows))) % 10


def aimed_everybody(sent: Sent, rng: Generator) -> None:
    fours = sent.truth[:, None].repeat(2, axis=1) == 4
    sent.label[fours & (rng.random(fours.shape) < FLIPPED / fours.mean())] = 9


def aimed_one(sent: Sent, rng: Generator) -> None:
    fours = np.flatnonzero(sent.truth == 4)
    rows = _some(fours, min(1.0, 2 * FLIPPED * len(sent.truth) / len(fours)), rng)
    sent.people[rows, 1], sent.label[rows, 1] = "eve", 9


def aimed_two(sent: Sent, rng: Generator) -> None:
    fours = np.flatnonzero(sent.truth == 4)
    rows = _some(fours, FLIPPED * len(sent.truth) / len(fours), rng)
    sent.people[rows], sent.label[rows] = ("eve", "mallory"), 9


ATTACKS: Final[dict[str, Attack]] = {
    "none": nobody,
    "random, by everybody": random_everybody,
    "random, by one person": random_one,
    "4 to 9, by everybody": aimed_everybody,
    "4 to 9, by one person": aimed_one,
    "4 to 9, by two who agree": aimed_two,
}

BELIEVED: Final = ("random, by everybody", "4 to 9, by everybody", "4 to 9, by two who agree")


def fit(seed: int, images: int, real: Prepared, drawn: Prepared, labelled: Prepared) -> CNN:
    """A model of the pipeline's own training, on `images` images."""
    params = TrainParams.load().model_copy(update={"images_seen": images, "passes": 0, "reports": 1, "seed": seed})
    torch.manual_seed(seed)
    network: CNN = CNN(params.width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = recipe(params, int((real.splits == Split.TRAIN).sum()))
    for _ in train(network, groups(real, drawn, labelled, params), Group(*validation(real, drawn)), plan):
        pass
    return network


def rows_of(sent: Sent, pixels: Pixels, network: CNN) -> Iterator[SentLabel]:
    """The labels as the journal would give them, in an order in which each picture's second label is later."""
    probabilities = softmax(logits(network, pixels), axis=1).astype("<f4")
    count = len(pixels)
    for at in range(2 * count):
        row, which = at % count, at // count
        answer = int(probabilities[row].argmax())
        yield SentLabel(
            f"{at:032x}", 86_400.0 * (row % DAYS) + at, LabelRow(f"{row:032x}", int(sent.label[row, which]),
            str(sent.people[row, which])), VERSION, answer, float(probabilities[row, answer]),
            probabilities[row].tobytes(), str(sent.people[row, 0]), pixels[row],
        )  # fmt: skip


def believed(feedback: Feedback, outcome: Outcome) -> Feedback:
    """Takes the newest label of each picture, whatever it is."""
    last = {picture: row for row, picture in enumerate(same_pictures(feedback.pixels).tolist())}
    verdicts = np.full(len(feedback.rows), Verdict.MERGED, np.uint8)
    verdicts[list(last.values())] = Verdict.TAKEN
    return feedback.with_judged(dataclasses.replace(outcome.judged, verdicts=verdicts))


@dataclass
class World:
    """The data, and the first model."""

    real: Prepared
    drawn: Prepared
    pixels: Pixels  # that people send
    truth: Labels
    held_out: Group
    network: CNN

    @classmethod
    def made(cls, seed: int, images: int, pictures: int) -> "World":
        source, settings = ingest.digits(), PrepareParams.load()
        splits = split(source, test=settings.test, validation=settings.validation, seed=settings.seed)
        real = prepare(source, splits)
        drawn = synthesize(SynthesizeParams.load().model_copy(update=DRAWN | {"seed": seed}), real.classes)
        pixels, truth = write(pictures, hand=CAREFUL, styles=without(()), seed=(seed, 10**6), classes=DIGITS)
        held_out = Group(*write(HELD_OUT, hand=CAREFUL, styles=without(()), seed=(seed, 10**6 + 1), classes=DIGITS))
        network = fit(seed, images, real, drawn, Prepared(real.images[:0], real.labels[:0], real.classes,
                                                          real.splits[:0], real.rows[:0]))  # fmt: skip
        return cls(real, drawn, pixels, truth, held_out, network)

    def right(self, network: CNN) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which of the held-out pictures it reads rightly."""
        read: np.ndarray[tuple[int], np.dtype[np.bool_]]
        read = logits(network, self.held_out.images).argmax(axis=1) == self.held_out.labels
        return read


@dataclass
class Found:
    """What one training came to."""

    accuracy: float
    on_4: float
    wrong: int  # of the labels that were trained on
    trained_on: int
    suspects: str  # who was held back, and why


def trained(world: World, feedback: Feedback, outcome: Outcome, sent: Sent, seed: int, images: int) -> Found:
    chosen = labels(feedback, world.real, LabelsParams.load().min_taken)
    network = fit(seed, images, world.real, world.drawn, chosen)
    rows = chosen.rows[chosen.splits == Split.TRAIN]
    truth = sent.truth[np.array([int(name, 16) for name in feedback.rows["prediction_id"][rows]], int)]
    wrong = int((feedback.rows["label"][rows] != truth).sum())
    right = world.right(network)
    why = "; ".join(dict.fromkeys(f"{suspect.who} {suspect.why}" for suspect in outcome.suspects))
    return Found(float(right.mean()), float(right[world.held_out.labels == 4].mean()), wrong, len(rows), why)


def measure(seed: int, images: int, pictures: int) -> tuple[float, dict[tuple[str, str], Found]]:
    """The accuracy of the first model, and what each attack came to: by (attack, how labels are treated)."""
    world = World.made(seed, images, pictures)
    found = {}
    bar = tqdm(ATTACKS.items(), f"seed {seed}", leave=False, disable=None)
    for name, attack in bar:
        rng = np.random.default_rng(seed)
        sent = Sent.honest(world.truth, rng)
        attack(sent, rng)
        everything = extended(Feedback.empty(DIGITS), rows_of(sent, world.pixels, world.network), [], VERSION)
        outcome = judge(everything, FeedbackParams.load())
        judged = everything.with_judged(outcome.judged)
        found[name, "judged"] = trained(world, judged, outcome, sent, seed, images)
        if name in BELIEVED:
            all_of_them = believed(everything, outcome)
            found[name, "believed"] = trained(world, all_of_them, outcome, sent, seed, images)
    return float(world.right(world.network).mean()), found


def _points(differences: list[float]) -> str:
    """The mean of differences of accuracy in points, and each of them."""
    each = ", ".join(f"{100 * one:+.2f}" for one in differences)
    return f"{100 * statistics.mean(differences):+.2f} ({each})"


def main() -> None:
    parser = command.Parser("poisoning", __doc__)
    parser.add_argument("--images", type=command.count, default=24_000, help="that each training sees")
    parser.add_argument("--pictures", type=command.count, default=2_000, help="that people send")
    parser.add_argument("--seeds", type=command.count, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = [measure(seed, arguments.images, arguments.pictures) for seed in range(arguments.seeds)]
    before = statistics.mean(first for first, _ in runs)
    clean = statistics.mean(found["none", "judged"].accuracy for _, found in runs)
    print(f"the first model reads {before:.2%}; trained again with honest labels, {clean:.2%}\n")
    print("| flipped | labels | wrong, of those trained on | accuracy, points | on 4, points | held back |")
    print("|---|---|---|---|---|---|")
    for name, how in runs[0][1]:
        of_all, of_4 = (
            _points([getattr(found[name, how], what) - getattr(found["none", "judged"], what) for _, found in runs])
            for what in ("accuracy", "on_4")
        )
        wrong = ", ".join(f"{found[name, how].wrong} of {found[name, how].trained_on:,}" for _, found in runs)
        held = runs[0][1][name, how].suspects if how == "judged" else ""
        print(f"| {name} | {how} | {wrong} | {of_all} | {of_4} | {held} |")


if __name__ == "__main__":
    command.run(main)
