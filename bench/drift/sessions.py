"""What happens if the strokes of one hand are counted as independent: false alarms about clean traffic.

Synthetic writers each have one style for each digit, one slant, one width of the pen. Writers are drawn at random for
the reference, one digit of each, and for the traffic, so nothing has changed but that a writer sends several digits.
"""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.random import Generator
from tqdm import tqdm

from bench.drift.alarms import ALPHA, OF_EVIDENCE, Watch
from bench.drift.traffic import Measured
from model.canonical import Pixels, canonical_batch
from model.predictor import Predictor
from model.synthetic import CAREFUL, written
from model.synthetic.styles import STYLES

PER_DIGIT: Final = 3  # pictures of each digit by each writer
MOST: Final = (1, 2, 5, 30)  # predictions of a session that are counted
LOOKS: Final = 50  # over a stream


def writer(rng: Generator) -> list[Pixels]:
    """Pictures of the digits of one writer, in random order."""
    slant, pen = rng.normal(*CAREFUL.slant), float(np.exp(rng.uniform(*np.log(CAREFUL.pen))))
    hand = replace(CAREFUL, slant=(slant, 0.03), pen=(0.75 * pen, pen), aspect=0.05, swell=0.05, bilevel=0)
    pictures = []
    for styles in STYLES.values():
        weights = np.array([style.weight for style in styles])
        style = styles[rng.choice(len(styles), p=weights / weights.sum())]
        pictures += [picture for _, picture in written(style, PER_DIGIT, hand, rng)]
    return [pictures[at] for at in rng.permutation(len(pictures))]


def people(predictor: Predictor, count: int) -> Measured:
    """What is watched of `count` writers, one after the other."""
    rng = np.random.default_rng(7)
    parts, labels = [], np.repeat(np.arange(len(STYLES)), PER_DIGIT)
    for _ in tqdm(range(count), "writers", leave=False, disable=None):
        pixels, _ = canonical_batch(writer(rng))
        parts.append(Measured.of(predictor, pixels, np.zeros(len(labels), np.uint8)))
    return Measured(*(np.concatenate([getattr(part, name) for part in parts]) for name in
                      ("values", "right", "probabilities")))  # fmt: skip


def measure(predictor: Predictor, writers: int, streams: int) -> None:
    """Prints the table."""
    everyone = people(predictor, writers)
    length = len(everyone) // writers
    half = writers // 2
    print(f"Clean streams of {half:,} sessions of {length}, a reference of {half:,} writers, alpha {ALPHA}.")
    print(f"{'counted of a session':>21} {'predictions':>12} " + " ".join(f"{kind:>8}" for kind in OF_EVIDENCE))
    for most in MOST:
        ever = dict.fromkeys(OF_EVIDENCE, 0)
        for number in tqdm(range(streams), f"at most {most}", leave=False, disable=None):
            for kind, alarmed in _ever(everyone, length, most, np.random.default_rng([number, 8])).items():
                ever[kind] += alarmed
        print(f"{most:21} {half * most:12,} " + " ".join(f"{ever[kind] / streams:8.1%}" for kind in OF_EVIDENCE))


def _ever(everyone: Measured, length: int, most: int, rng: Generator) -> dict[str, bool]:
    """Whether an alarm is ever raised about a stream of sessions, of which `most` predictions each are counted."""
    order = rng.permutation(len(everyone) // length) * length
    half = len(order) // 2
    one = order[:half] + rng.integers(length, size=half)
    watch = Watch(everyone[one].reference())
    rows = (order[half:, None] + np.arange(most)).ravel()
    raised = dict.fromkeys(OF_EVIDENCE, False)
    for epoch, some in enumerate(np.array_split(rows, LOOKS)):
        part = everyone[some]
        watch.add(part, rng.random(part.values.shape), np.zeros(len(part), bool), epoch)
        raised = {kind: raised[kind] or alarmed for kind, alarmed in watch.of_evidence().items()}
    return raised
