"""The model card, after Mitchell et al. 2019, put together from what the pipeline measured: nobody types a number here.

Neither torch nor MLflow is imported, so that it costs a second; `promote` sends the card to MLflow with its report.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from model import bundle
from model.bundle import Manifest
from model.labels import LABELS
from model.robustness import DISTORTIONS
from pipelines import paths, stage
from pipelines.artefacts import Prepared, Split

Facts: TypeAlias = Mapping[str, Any]  # what a stage wrote as JSON

# Shown as a share of 100, under these names; any other number as it is.
SHARES: Final = frozenset(
    {"accuracy", "accuracy_answered", "coverage", "f1", "precision", "recall", "refused", "answered", "share"}
)
SHOWN: Final = (*LABELS, "none")  # by label, `NO_DIGIT` the last
SHOWN_APART: Final = frozenset({"per_class", "robustness", "baselines", "parameters"})  # of metrics.json


@dataclass(frozen=True)
class Known:
    """All that the card is made of."""

    manifest: Manifest
    metrics: Facts  # metrics.json
    calibration: Facts  # calibration.json
    export: Facts  # export.json
    run: Facts  # run.json: what was known when the training began
    source: Facts  # validation.json
    counts: Mapping[str, Mapping[str, int]]  # images by split and digit, the drawn ones apart

    @classmethod
    def load(cls) -> "Known":
        counts = {}
        for kind, path in (("real", paths.PREPARED), ("drawn", paths.SYNTHETIC)):
            images = Prepared.load(path)
            for split in Split:
                of = np.bincount(images.of(split)[1], minlength=len(SHOWN)).tolist()
                counts[f"{split.name.lower()}, {kind}"] = dict(zip(SHOWN, of, strict=True))
        del counts["test, drawn"]  # there is no such thing

        def said(path: Path) -> Facts:
            found: Facts = json.loads(path.read_text())
            return found

        return cls(
            manifest=bundle.read(paths.BUNDLE),
            metrics=said(paths.METRICS),
            calibration=said(paths.CALIBRATION),
            export=said(paths.EXPORT),
            run=said(paths.RUN),
            source=said(paths.VALIDATION),
            counts=counts,
        )


def card(known: Known) -> str:
    """The card, in Markdown."""
    manifest, metrics = known.manifest, known.metrics
    sections = [
        f"# Model card: {manifest.name} {manifest.version}",
        "Made by the pipeline from its measurements, after Mitchell et al. 2019, *Model Cards for Model Reporting*.",
        _details(known),
        _use(known),
        "## Training data",
        _pairs(known.source["provenance"]),
        _table(["images", *SHOWN, "all"],
               [[name, *(_number("images", n) for n in (*of.values(), sum(of.values())))]
                for name, of in known.counts.items()]),
        "Counted after `canonical`, without images that two splits share. Real ones are the source's; drawn ones the"
        " project makes itself, those of none so that the network learns to see no digit in them.",
        "## Training parameters",
        _pairs({name: value for name, value in known.run["start"]["params"].items()
                if name.split(".")[0] in ("data", "prepare", "synthesize", "train")}),
        "## Evaluation",
        f"On the frozen test split, {_number('images', metrics['images'])} real images that nothing was chosen by.",
        _pairs({name: value for name, value in metrics.items() if not isinstance(value, (Mapping, list))
                and name not in SHOWN_APART}),
        "### Each digit",
        _matrix("digit", metrics["per_class"]),
        "### Beside it, on the same images",
        _matrix("classifier", metrics["baselines"]),
        _robustness(metrics["robustness"]),
        "## Calibration and abstention",
        _pairs(known.calibration),
        *(_section(name, value) for name, value in metrics.items()
          if isinstance(value, (Mapping, list)) and name not in SHOWN_APART),
        "## Size, time, hashes",
        _pairs({"parameters": metrics["parameters"], **known.export}),
        _table(["SHA-256 of", ""], [[name, f"`{digest}`"] for name, digest in manifest.sha256.items()]),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _details(known: Known) -> str:
    manifest = known.manifest
    return "## Model details\n\n" + _pairs({
        "version": manifest.version,
        "created": manifest.created,
        "what": "a small convolutional network that reads one handwritten digit",
        "input": f"28x28 grey levels, made of any picture by `model.canonical`, version {manifest.canonical_version}",
        "output": f"a probability for each of {', '.join(manifest.labels)}",
        "git revision": f"{manifest.git_revision}{' with uncommitted changes' if manifest.git_dirty else ''}",
        "run": manifest.run,
        "MLflow run": manifest.mlflow_run_id,
        "licence": "Apache-2.0",
    })  # fmt: skip


def _use(known: Known) -> str:
    """What it is for, and where it is known to fail; which digit and which distortion, the metrics say."""
    per_class = known.metrics["per_class"]
    weakest = min(per_class, key=lambda digit: per_class[digit]["recall"])
    recall = _number("recall", per_class[weakest]["recall"])
    lines = [
        "## Intended use",
        "Reading single handwritten digits, in pictures of one digit each: to learn from, and as the skeleton of other"
        " projects. An answer below the abstain threshold is to be asked about, not believed.",
        "Not meant for: cheques, medical or legal papers, or anything else where a wrong digit that nobody looks at"
        " does harm; several digits in one picture; printed digits, letters and other signs.",
        "## Limits",
        f"- The digit it reads worst is {weakest}: {recall} of {_number('images', per_class[weakest]['images'])}.",
    ]
    for name, views in known.metrics["robustness"]["accuracy"].items():
        known_as = DISTORTIONS[name]
        course = [(share, -abs(float(at) - known_as.none), at) for at, share in views["canonical"].items()]
        share, _, at = min(course)  # of equals the severest
        lines.append(f"- {name.capitalize()}: {_number('accuracy', share)} at worst, at {at} ({known_as.unit}).")
    writers = f"the writers of `{known.source['provenance']['source']}`"
    lines += [
        f"- It has learnt from {writers}; who writes otherwise is read worse, and by how much these figures don't say.",
        "- Its confidence is calibrated on digits like those it has learnt from; on other pictures it means less.",
        "- The images hold no personal data beyond a digit's shape; nothing is known of the writers' age or origin, so"
        " no figure can be given for groups of people.",
    ]
    blocks = [*lines[:4], "\n".join(lines[4:])]
    return "\n\n".join(blocks)


def _robustness(robustness: Facts) -> str:
    """A table for every distortion: each severity, without and with `canonical`."""
    blocks = [
        "## Robustness",
        f"The accuracy on {_number('images', robustness['images'])} test images, distorted on a larger canvas by a"
        " stated amount: the network by itself (bare), and as the product reads them (canonical).",
    ]
    for name, views in robustness["accuracy"].items():
        severities = list(next(iter(views.values())))
        rows = [[view, *(_number("accuracy", points[s]) for s in severities)] for view, points in views.items()]
        blocks.append(_table([f"{name}: {DISTORTIONS[name].unit}", *severities], rows))
    return "\n\n".join(blocks)


def _section(name: str, value: Facts | Sequence[Any]) -> str:
    """A part of metrics.json whose form this file doesn't know: as a table where it has rows, else as pairs."""
    heading = f"### {name.replace('_', ' ').capitalize()}"
    if isinstance(value, Mapping):
        plain = {key: item for key, item in value.items() if not isinstance(item, (Mapping, list))}
        rows = {key: item for key, item in value.items() if isinstance(item, Mapping)}
        lists = {key: item for key, item in value.items() if isinstance(item, list)}
        parts = [_pairs(plain)] if plain else []
        if rows and all(not isinstance(item, (Mapping, list)) for row in rows.values() for item in row.values()):
            parts.append(_matrix("", rows))
        else:
            parts += [_section(key, row) for key, row in rows.items()]
        return "\n\n".join([heading, *parts, *(_section(key, item) for key, item in lists.items())])
    if value and all(isinstance(row, Mapping) for row in value):
        columns = list(dict.fromkeys(key for row in value for key in row))
        rows_of = [[_number(key, row[key]) if key in row else "" for key in columns] for row in value]
        return f"{heading}\n\n{_table(columns, rows_of)}"
    return f"{heading}\n\n{', '.join(_number(name, item) for item in value)}"


def _pairs(values: Facts) -> str:
    return _table(["", ""], [[name, _number(name, value)] for name, value in values.items()])


def _matrix(corner: str, rows: Mapping[str, Facts]) -> str:
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    return _table(
        [corner, *columns],
        [
            [name, *(_number(f"{name}.{key}", row[key]) if key in row else "" for key in columns)]
            for name, row in rows.items()
        ],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [list(map(str, head)), ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(name: str, value: object) -> str:
    """As people write it: shares in per cent, whole numbers with commas, others to four digits; the rest as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if not SHARES.isdisjoint(name.split(".")):
        return f"{value:.2%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def main() -> None:
    text = card(Known.load())
    with stage.writing(paths.CARD) as half:
        half.write_text(text)
    print(f"card: {paths.CARD}, {len(text.splitlines())} lines")


if __name__ == "__main__":
    stage.run(main)
