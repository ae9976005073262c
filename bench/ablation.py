"""What each part of the training buys: a DVC experiment for every part left out, and docs/ablation.md from them all.

    python -m bench.ablation path/to/mnist        (about 20 minutes on 2 cores)

On MNIST, whose validation split is large enough to show tenths of a per cent; no test image is looked at. Every
experiment trains on as many images, which is a tenth of a full training. `dvc exp show` lists them afterwards.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import dvc.api
from tqdm import tqdm

TABLE = Path("docs/ablation.md")
NO_AFFINE = {"train.augment.rotation": 0, "train.augment.scale": 0, "train.augment.shear": 0, "train.augment.shift": 0}
NO_OTHER = {"train.augment.elastic": 0, "train.augment.stroke": 0, "train.augment.contrast": 0}
VARIANTS: Mapping[str, Mapping[str, float]] = {
    "everything, as it is": {},
    "without rotation, scale, shear and shift": NO_AFFINE,
    "without elastic distortion": {"train.augment.elastic": 0},
    "without thicker and thinner strokes": {"train.augment.stroke": 0},
    "without changes of contrast": {"train.augment.contrast": 0},
    "without any of these": NO_AFFINE | NO_OTHER,
    "without drawn digits": {"train.real_weight": 1000, "train.drawn": 0},
    "without pictures that hold no digit": {"train.outliers": 0},
    "without the mean of the last weights": {"train.average": 0},
    "with label smoothing of 0.05": {"train.label_smoothing": 0.05},
    "half as wide": {"train.width": 8},
}


def experiment(name: str, settings: Mapping[str, object]) -> None:
    """Trains with `settings` in a copy of the project; `dvc exp show` knows it as `name` from then on."""
    values = [word for key, value in settings.items() for word in ("-S", f"{key}={value}")]
    command = ["dvc", "exp", "run", "--temp", "--force", "-n", name, *values, "train"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"{' '.join(command)}: {(ran.stderr or ran.stdout).strip().splitlines()[-1]}")


def results(names: list[str]) -> dict[str, dict[str, float]]:
    """calibration.json of each experiment."""
    return {name: dvc.api.metrics_show("out/calibration.json", rev=name) for name in names}


def table(found: Mapping[str, list[dict[str, float]]], images: int) -> str:
    seeds = len(next(iter(found.values())))
    lines = [
        "# What each part of the training buys",
        "",
        f"Made by `make ablation`: {len(VARIANTS)} variants of the training, {seeds} seed(s) each, as DVC experiments"
        f" on MNIST with {images:,} images seen. Accuracy on the validation split, the mean of the seeds and, in"
        " brackets, the distance between the least and the greatest; `drawn` are digits that the project wrote itself,"
        " in styles MNIST lacks.",
        "",
        "| | MNIST | drawn | refused below |",
        "|---|---|---|---|",
    ]
    for variant, runs in found.items():
        cells = []
        for key in ("validation_accuracy_real", "validation_accuracy_drawn", "abstain_below"):
            values = [run[key] for run in runs]
            cells.append(f"{statistics.mean(values):.2%} ({max(values) - min(values):.2%})")
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", type=Path, help="a folder with MNIST's four .gz files")
    parser.add_argument("--images", type=int, default=100_000, help="seen in each training")
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    base = {
        "data.source": "mnist",
        "data.mnist_dir": asked.mnist.resolve(),
        "train.images_seen": asked.images,
        "train.passes": 0,
    }
    names = {
        variant: [f"ablation-{number}-{seed}" for seed in range(asked.seeds)] for number, variant in enumerate(VARIANTS)
    }
    for variant, settings in (bar := tqdm(VARIANTS.items(), unit="variant")):
        bar.set_postfix_str(variant)
        for seed, name in enumerate(names[variant]):
            experiment(name, base | settings | {"train.seed": seed})
    known = results([name for of in names.values() for name in of])
    TABLE.write_text(table({variant: [known[name] for name in of] for variant, of in names.items()}, asked.images))
    print(f"{TABLE}: {len(known)} experiments")


if __name__ == "__main__":
    main()
