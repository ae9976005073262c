"""Measures what watching sees: false alarms, delay, power, harm, sessions, and cost. It prints a table for each part.

    python -m bench.drift out/champion                                        (about 20 minutes on 2 cores)
    python -m bench.drift out/champion --part null --streams 100              (a minute)

The pictures are those of data/prepared.npz that the model did not train on: one half, drawn at random, is the
reference, the other one is the traffic. With MNIST as the source, each half has about 10,000. --pen adds pen strokes,
as bench.handwriting reads them, to the changes.
"""

from pathlib import Path
from typing import Final

from bench import command
from bench.drift import cost, fixed, harm, null, sessions, shifts
from bench.drift.traffic import Pool
from model.predictor import Predictor
from pipelines import paths

PARTS: Final = ("null", "shifts", "fixed", "harm", "sessions", "cost")


def main() -> None:
    parser = command.Parser("drift", __doc__)
    parser.add_argument("bundle", type=command.bundle)
    parser.add_argument("--prepared", type=Path, default=paths.PREPARED, help="the file that prepare wrote for it")
    parser.add_argument("--pen", type=command.file, help="a gzip file of pen strokes")
    parser.add_argument("--part", choices=PARTS, nargs="*", default=PARTS)
    parser.add_argument("--streams", type=command.count, default=1_000, help="clean streams")
    parser.add_argument("--length", type=command.count, default=100_000, help="predictions of each clean stream")
    parser.add_argument("--runs", type=command.count, default=10, help="streams of each change")
    parser.add_argument("--known", type=command.count, help="predictions that the evidence of a change compares with")
    parser.add_argument("--splits", type=command.count, default=10, help="of the pool, for fixed n")
    parser.add_argument("--writers", type=command.count, default=2_000, help="of sessions")
    arguments = parser.parse_args()
    predictor = Predictor.load(arguments.bundle)
    pool = Pool.of(predictor, arguments.prepared, arguments.pen)
    parts = {
        "null": lambda: null.measure(pool.reference, arguments.streams, arguments.length),
        "shifts": lambda: shifts.measure(predictor, pool, arguments.runs, arguments.known),
        "fixed": lambda: fixed.measure(predictor, pool, arguments.splits, 20 * arguments.splits),
        "harm": lambda: harm.measure(predictor, pool),
        "sessions": lambda: sessions.measure(predictor, arguments.writers, 10 * arguments.runs),
        "cost": lambda: cost.measure_cost(predictor, pool),
    }
    for name in arguments.part:
        print(f"\n{name}")
        parts[name]()


if __name__ == "__main__":
    command.run(main)
