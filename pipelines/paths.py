"""The files that stages read and write, relative to the repository's root. DVC runs the stages from there."""

from pathlib import Path
from typing import Final

PARAMS: Final = Path("params.yaml")

MNIST: Final = Path("data/mnist")  # the downloaded IDX files; not an output of a stage, so runs keep them
RAW: Final = Path("data/raw.npz")
PREPARED: Final = Path("data/prepared.npz")
SYNTHETIC: Final = Path("data/synthetic.npz")
FEEDBACK: Final = Path("data/feedback.npz")
LABELS: Final = Path("data/labels.npz")

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
FEEDBACK_REPORT: Final = OUT / "feedback" / "report.json"
GATE: Final = OUT / "gate.json"
GATE_REPORT: Final = OUT / "gate.md"
CHAMPION: Final = OUT / "champion"
WATCH: Final = OUT / "watch"

PROMOTIONS: Final = Path("promotions.jsonl")  # in git: who promoted which model, when, and which one it replaced
RUNS: Final = Path("runs")  # the runs that tracking recorded, sent or not
