"""How soon each alarm is raised about each change of the traffic, and how often at all."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from tqdm import tqdm

from bench.drift.alarms import KINDS, Watch, delays
from bench.drift.traffic import CHANGES, MIXES, Measured, Pool, mixed
from model.predictor import Predictor
from model.robustness import VIEWS

PEN: Final = "pen strokes"  # of other people, if there are any
SHARES: Final = (0.1, 0.5, 1.0)
CLEAN_FIRST: Final = 1_000  # predictions before the change
AFTER: Final = 4_000  # predictions after it: an alarm that has not come by then counts as none
STEP: Final = 100  # predictions between two looks; each is an epoch, in which a change may begin
AUDIT: Final = 0.05  # share of the predictions that people label


def shifts(predictor: Predictor, pool: Pool, most: int | None = None) -> Iterator[tuple[str, str, Measured]]:
    """(change, view, what is watched of the changed traffic). A mix of classes is the same in both views."""
    for name, change in CHANGES.items():
        for view in VIEWS:
            yield name, view, pool.changed(predictor, change, view, most)
    if pool.pen:
        yield PEN, "canonical", pool.pen
    for name, mix in MIXES.items():
        yield name, "either", pool.traffic[np.flatnonzero(mix(pool.labels[pool.half :]))]


def measure(predictor: Predictor, pool: Pool, runs: int, known: int | None) -> None:
    """Prints the table. The evidence compares with the first `known` rows of the reference, or with all."""
    print(f"Alarms within {AFTER:,} predictions after a change: share of {runs} runs, and the median delay of these.")
    usual = pool.reference[:known].reference()
    print(f"{AUDIT:.0%} of the predictions are labelled. The evidence compares with {usual.count:,} predictions.")
    print(f"{'change':20} {'view':10} {'share':>6} {'error':>7} " + " ".join(f"{kind:>14}" for kind in KINDS))
    reference = pool.reference.reference()
    count = 2 * len(CHANGES) + len(MIXES)
    for name, view, shifted in tqdm(shifts(predictor, pool), "shifts", total=count, leave=False, disable=None):
        for share in SHARES:
            found: dict[str, list[int]] = {kind: [] for kind in KINDS}
            for run in range(runs):
                rng = np.random.default_rng([run, 2])
                stream = mixed(pool.traffic, shifted, share, CLEAN_FIRST, rng, CLEAN_FIRST + AFTER)
                for kind, at in delays(Watch(reference, usual), stream, STEP, AUDIT, rng).items():
                    if at is not None and at > CLEAN_FIRST:  # an earlier alarm is false, and shows nothing
                        found[kind].append(at - CLEAN_FIRST)
            error = share * shifted.error + (1 - share) * pool.traffic.error
            cells = " ".join(f"{_cell(at, runs):>14}" for at in found.values())
            tqdm.write(f"{name:20} {view:10} {share:6.0%} {error:7.1%} {cells}")


def _cell(delays: list[int], runs: int) -> str:
    return f"{len(delays) / runs:.0%} {np.median(delays):,.0f}" if delays else "0%"
