"""Where every stage reads and writes, relative to the repository's root, from which DVC runs the stages."""

from pathlib import Path
from typing import Final

PARAMS: Final = Path("params.yaml")

MNIST: Final = Path("data/mnist")  # the downloaded IDX files; kept between runs, so no output of a stage
RAW: Final = Path("data/raw.npz")
PREPARED: Final = Path("data/prepared.npz")
SYNTHETIC: Final = Path("data/synthetic.npz")

OUT: Final = Path("out")
VALIDATION: Final = OUT / "validation.json"
WEIGHTS: Final = OUT / "weights.pt"
CALIBRATION: Final = OUT / "calibration.json"
RUN: Final = OUT / "run.json"
TRAINING: Final = OUT / "training.csv"
METRICS: Final = OUT / "metrics.json"
PREDICTIONS: Final = OUT / "predictions.npz"
SHEET: Final = OUT / "synthetic.png"
PLOTS: Final = OUT / "plots"
BUNDLE: Final = OUT / "bundle"
EXPORT: Final = OUT / "export.json"
CARD: Final = OUT / "model_card.md"
COMPARE: Final = OUT / "compare"
GATE: Final = OUT / "gate.json"
GATE_REPORT: Final = OUT / "gate.md"
CHAMPION: Final = OUT / "champion"

PROMOTIONS: Final = Path("promotions.jsonl")  # in git: who promoted what, when, in place of what
RUNS: Final = Path("runs")  # what tracking recorded here, sent or not
