"""Measures what each part of the training buys: runs a DVC experiment without each part, and writes docs/ablation.md.

    python -m bench.ablation path/to/mnist        (about 20 minutes on 2 cores)

The experiments train on MNIST, because its validation split is large enough to show tenths of a per cent. They use no
test image. Each of them sees a tenth of the images of a full training. `dvc exp show` lists them afterwards.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import dvc.api
from tqdm import tqdm

from bench import command
from pipelines import ingest

TABLE = Path("docs/ablation.md")
NO_AFFINE: dict[str, float] = {
    "train.augment.rotation": 0,
    "train.augment.scale": 0,
    "train.augment.shear": 0,
    "train.augment.shift": 0,
}
NO_OTHER: dict[str, float] = {f"train.augment.{name}": 0 for name in ("elastic", "stroke", "contrast")}
VARIANTS: Mapping[str, dict[str, float]] = {
    "everything": {},
    "without rotation, scale, shear and shift": NO_AFFINE,
    "without elastic distortion": {"train.augment.elastic": 0},
    "without thicker and thinner strokes": {"train.augment.stroke": 0},
    "without changes of contrast": {"train.augment.contrast": 0},
    "without any of these": NO_AFFINE | NO_OTHER,
    "without synthetic digits": {"train.real_weight": 1000, "train.drawn": 0},
    "without outliers (pictures without a digit)": {"train.outliers": 0},
    "without the mean of the last weights": {"train.average": 0},
    "with label smoothing of 0.05": {"train.label_smoothing": 0.05},
    "half as wide": {"train.width": 8},
}


def experiment(name: str, settings: Mapping[str, object]) -> None:
    """Trains with `settings` in a copy of the project, as the DVC experiment `name`."""
    values = [word for key, value in settings.items() for word in ("-S", f"{key}={value}")]
    words = ["dvc", "exp", "run", "--temp", "--force", "-n", name, *values, "train"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # for the stages' `python`
    env = os.environ | {"PATH": path}
    ran = subprocess.run([sys.executable, "-m", *words], env=env, capture_output=True, text=True, check=False)
    if ran.returncode:
        last = (ran.stderr or ran.stdout).strip().splitlines()[-1:]
        sys.exit(f"bench: {' '.join(words)}: {''.join(last) or f'exit code {ran.returncode}'}")


def results(names: list[str]) -> dict[str, dict[str, float]]:
    """The metrics of each experiment, from its calibration.json."""
    # `dvc.api.metrics_show` also reads the workspace, where no training need have run.
    return {name: json.loads(dvc.api.read("out/calibration.json", rev=name)) for name in names}


def table(metrics: Mapping[str, list[dict[str, float]]], images: int) -> str:
    seeds = len(next(iter(metrics.values())))
    lines = [
        "# What each part of the training buys",
        "",
        f"`make ablation` writes this page: {len(VARIANTS)} variants of the training, {seeds} seed(s) each, as DVC"
        f" experiments on MNIST with {images:,} images seen. The table has the accuracy on the validation split: the"
        " mean of the seeds and, in brackets, the difference between the highest and the lowest. The synthetic digits"
        " have styles that MNIST lacks. The last column is the confidence below which the model abstains.",
        "",
        "| | MNIST | synthetic | abstains below |",
        "|---|---|---|---|",
    ]
    for variant, runs in metrics.items():
        cells = []
        for key in ("validation_accuracy_real", "validation_accuracy_drawn", "abstain_below"):
            values = [run[key] for run in runs]
            cells.append(f"{statistics.mean(values):.2%} ({max(values) - min(values):.2%})")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = command.Parser("ablation", __doc__)
    parser.add_argument("mnist", type=command.mnist, help="the folder with MNIST's four .gz files")
    parser.add_argument("--images", type=command.count, default=100_000, help="seen in each training")
    parser.add_argument("--seeds", type=command.count, default=2, help="trainings of each variant")
    arguments = parser.parse_args()
    ingest.check(arguments.mnist)
    base = {
        "data.source": "mnist",
        "data.mnist_dir": arguments.mnist,
        "train.images_seen": arguments.images,
        "train.passes": 0,
    }
    names = {
        variant: [f"ablation-{number}-{seed}" for seed in range(arguments.seeds)]
        for number, variant in enumerate(VARIANTS)
    }
    for variant, settings in (bar := tqdm(VARIANTS.items(), unit="variant", disable=None)):
        bar.set_postfix_str(variant)
        for seed, name in enumerate(names[variant]):
            experiment(name, base | settings | {"train.seed": seed})
    metrics = results([name for of_variant in names.values() for name in of_variant])
    rows = {variant: [metrics[name] for name in of_variant] for variant, of_variant in names.items()}
    TABLE.write_text(table(rows, arguments.images))
    print(f"{TABLE}: {len(metrics)} experiments")


if __name__ == "__main__":
    command.run(main)
