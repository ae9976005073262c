"""Which changes cost accuracy, which alarms tell of those alone, and how well accuracy is estimated without labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from tqdm import tqdm

from bench.drift.alarms import ALPHA, EPSILON, KINDS, Watch, delays
from bench.drift.shifts import AUDIT, PEN, SHARES, STEP, shifts
from bench.drift.traffic import CHANGES, CONFIDENCE, MIXES, Measured, Pool, distortion, mixed
from model.drift import HARM, Reference, log_bet
from model.predictor import Predictor
from model.robustness import DISTORTIONS, VIEWS
from model.statistics import NAMES

PICTURES: Final = 1_000  # of each case
LENGTH: Final = 4_000  # predictions of a stream
WINDOW: Final = 1_000  # predictions of a window of the usual test
SHOWN: Final = 12  # changes whose estimates are printed: those that cost most
USUAL: Final = "window"
SIZES: Final = (50, 100, 500)  # predictions, for the power of each statistic
NAMED: Final = {*CHANGES, *MIXES, PEN}  # the changes without a severity
LEVEL: Final = 0.01  # of false alarms, of the power of each statistic


@dataclass(frozen=True)
class Case:
    """A stream of which a share has changed, and whether each kind of alarm was raised about it."""

    name: str
    error: float  # of the stream
    raised: dict[str, bool]


def changes(predictor: Predictor, pool: Pool) -> Iterator[tuple[str, Measured]]:
    """The changes of `shifts`, and every severity of `model.robustness`, in both views."""
    for name, view, shifted in shifts(predictor, pool, PICTURES):
        yield f"{name}, {view}", shifted
    for name, kind in DISTORTIONS.items():
        for severity in kind.severities:
            for view in VIEWS:
                yield (
                    f"{name} {severity:g}, {view}",
                    pool.changed(predictor, distortion(name, severity), view, PICTURES),
                )


def count() -> int:
    """The number of changes that `changes` gives."""
    return len(VIEWS) * (len(CHANGES) + sum(len(kind.severities) for kind in DISTORTIONS.values())) + len(MIXES)


def case(name: str, shifted: Measured, share: float, pool: Pool, reference: Reference, seed: int) -> Case:
    """Watches one stream that is changed from its beginning."""
    rng = np.random.default_rng([seed, 3])
    stream = mixed(pool.traffic, shifted, share, 0, rng, LENGTH)
    found = delays(Watch(reference), stream, STEP, AUDIT, rng)
    raised = {kind: at is not None for kind, at in found.items()}
    known = pool.reference.values[:, CONFIDENCE]
    windows = stream.values[:, CONFIDENCE].reshape(-1, WINDOW)
    raised[USUAL] = any(ks_2samp(known, window, method="asymp").pvalue < ALPHA for window in windows)
    error = share * shifted.error + (1 - share) * pool.traffic.error
    return Case(f"{name}, {share:.0%}", error, raised)


def measure(predictor: Predictor, pool: Pool) -> None:
    """Prints three tables: precision of the alarms, accuracy estimated without labels, power of each statistic."""
    reference = pool.reference.reference()
    whole = dict(tqdm(changes(predictor, pool), "changes", total=count(), leave=False, disable=None))
    cases = [
        case(name, shifted, share, pool, reference, seed)
        for seed, (name, shifted) in enumerate(tqdm(whole.items(), "streams", leave=False, disable=None))
        for share in SHARES
    ]
    precision(cases, reference.error + EPSILON)
    estimates(whole, reference)
    print()
    power({name: seen for name, seen in whole.items() if name.rsplit(", ", 1)[0] in NAMED}, pool, reference)


def precision(cases: list[Case], limit: float) -> None:
    """Of the alarms of each kind, how many were about harm; of the harmful streams, how many were found."""
    harmful = [one.error > limit for one in cases]
    print(f"{len(cases)} streams of {LENGTH:,} predictions; {sum(harmful)} are harmful: error above {limit:.1%}.")
    print(f"{'alarm':10} {'raised':>7} {'of these harmful':>17} {'harmful streams found':>22}")
    for kind in (*KINDS, USUAL):
        raised = [one.raised[kind] for one in cases]
        both = sum(a and b for a, b in zip(raised, harmful, strict=True))
        right = f"{both / sum(raised):17.1%}" if any(raised) else f"{'-':>17}"
        print(f"{kind:10} {sum(raised):7} {right} {both / max(sum(harmful), 1):22.1%}")
    for one in cases:
        for kind in ("risk", "harm"):
            if one.raised[kind] and one.error <= limit:
                print(f"  {kind} alarm without harm: {one.name}, error {one.error:.1%}")
    print()


def estimates(whole: dict[str, Measured], reference: Reference) -> None:
    """How far estimates without labels are from the accuracy: thresholded confidence, and the mean of confidences."""
    threshold = reference.atc_threshold
    rows = []
    for name, shifted in whole.items():
        confidence = shifted.values[:, CONFIDENCE]
        accuracy = 1 - shifted.error
        rows.append((name, accuracy, (confidence >= threshold).mean() - accuracy, confidence.mean() - accuracy))
    print(f"Estimated accuracy less the accuracy, in points, over {len(rows)} changes.")
    print(f"{'change':44} {'accuracy':>9} {'ATC':>7} {'mean confidence':>16}")
    worst = sorted(rows, key=lambda row: row[1])
    for name, accuracy, atc, mean in [*worst[:SHOWN], *(row for row in worst[SHOWN:] if row[0].startswith(PEN))]:
        print(f"{name:44} {accuracy:9.1%} {atc * 100:+7.1f} {mean * 100:+16.1f}")
    for name, chosen in (("all", rows), ("accuracy of 80 % and more", [row for row in rows if row[1] >= 0.8])):
        errors = np.abs([row[2:] for row in chosen]) * 100
        print(f"{'mean, ' + name:44} {len(chosen):>9} {errors[:, 0].mean():7.1f} {errors[:, 1].mean():16.1f}")


def power(whole: dict[str, Measured], pool: Pool, reference: Reference) -> None:
    """How often each statistic alone finds each change in n predictions, at a false-alarm level of `LEVEL`."""
    clean = pool.traffic
    rng = np.random.default_rng(4)
    limits = {n: np.quantile(bets(clean, n, 2_000, reference, rng), 1 - LEVEL, axis=0) for n in SIZES}
    print(f"Power at {LEVEL:.0%} false alarms with n = {', '.join(map(str, SIZES))} predictions, all changed.")
    print(f"Statistics that tell of harm: {', '.join(HARM)}.")
    print(f"{'change':34} {'lost':>6} " + " ".join(f"{name:>11}" for name in NAMES))
    for name, shifted in whole.items():
        found = [(bets(shifted, n, 200, reference, rng) > limits[n]).mean(axis=0) for n in SIZES]
        cells = " ".join(f"{'/'.join(_share(row[at]) for row in found):>11}" for at in range(len(NAMES)))
        print(f"{name:34} {shifted.error - clean.error:6.1%} {cells}")


def _share(value: float) -> str:
    return f"{value:.2f}".removeprefix("0") if value < 1 else "1"


def bets(measured: Measured, n: int, draws: int, reference: Reference, rng: np.random.Generator) -> NDArray[np.float64]:
    """The logarithms of the e-values of each statistic, for `draws` times n predictions: draws x len(NAMES)."""
    counts = np.stack([
        reference.bins(measured.values[rows], rng.random((n, len(NAMES))))
        for rows in (rng.integers(len(measured), size=n) for _ in range(draws))
    ])  # fmt: skip
    return log_bet(reference.gaps, np.zeros_like(counts), counts)
