"""The model card, after Mitchell et al. 2019. Every number in it comes from a measurement of the pipeline.

The stage imports neither torch nor MLflow, so it takes a second. `promote` sends the card to MLflow with its report.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from model import bundle
from model.bundle import Manifest
from model.labels import are_digits
from model.robustness import DISTORTIONS
from pipelines import paths, stage
from pipelines.artefacts import Prepared, Split

Facts: TypeAlias = Mapping[str, Any]  # a JSON file of a stage

# Numbers with these names are shown as percentages, all others unchanged.
SHARES: Final = frozenset(
    {"accuracy", "accuracy_answered", "coverage", "f1", "precision", "recall", "refused", "answered", "share"}
)
OUTLIERS: Final = "no label"  # heads the column of pictures of no class; with its space it is the name of none
OWN_SECTION: Final = frozenset({"per_class", "robustness", "baselines", "parameters"})  # keys of metrics.json


@dataclass(frozen=True)
class Measurements:
    """Everything the card shows."""

    manifest: Manifest
    metrics: Facts  # metrics.json
    calibration: Facts  # calibration.json
    export: Facts  # export.json
    run: Facts  # run.json: the parameters of the run
    source: Facts  # validation.json
    counts: Mapping[str, Mapping[str, int]]  # images by split and label, real and synthetic ones separately

    @classmethod
    def load(cls) -> "Measurements":
        manifest = bundle.read(paths.BUNDLE)
        columns = (*manifest.labels, OUTLIERS)
        counts = {}
        for origin, path in (("real", paths.PREPARED), ("synthetic", paths.SYNTHETIC), ("people's", paths.LABELS)):
            images = Prepared.load(path)
            for split in Split:
                per_label = np.bincount(images.of(split)[1], minlength=len(columns)).tolist()
                counts[f"{split.name.lower()}, {origin}"] = dict(zip(columns, per_label, strict=True))
        del counts["test, synthetic"]  # the test split holds real images only
        del counts["validation, people's"]  # there are none
        return cls(
            manifest=manifest,
            metrics=_json(paths.METRICS),
            calibration=_json(paths.CALIBRATION),
            export=_json(paths.EXPORT),
            run=_json(paths.RUN),
            source=_json(paths.VALIDATION),
            counts=counts,
        )


def _json(path: Path) -> Facts:
    facts: Facts = json.loads(path.read_text())
    return facts


def card(measured: Measurements) -> str:
    """The card, in Markdown."""
    manifest, metrics = measured.manifest, measured.metrics
    sections = [
        f"# Model card: {manifest.name} {manifest.version}",
        "The pipeline writes this card from its measurements, after Mitchell et al. 2019, *Model Cards for Model"
        " Reporting*.",
        _details(measured),
        _use(measured),
        "## Training data",
        _pairs(measured.source["provenance"]),
        _table(["images", *manifest.labels, OUTLIERS, "all"],
               [[name, *(_number("images", n) for n in (*per_label.values(), sum(per_label.values())))]
                for name, per_label in measured.counts.items()]),
        "Counted after `canonical`. An image that two splits share is left out of the earlier one. The project makes"
        f" the synthetic images itself. Those under *{OUTLIERS}* teach the network to be unsure. *People's* are"
        " pictures that the service was sent and that people labelled; only the gate uses those of the test split.",
        "## Training parameters",
        _pairs({name: value for name, value in measured.run["start"]["params"].items()
                if name.split(".")[0] in ("data", "prepare", "synthesize", "labels", "train")}),
        "## Evaluation",
        f"On the frozen test split: {_number('images', metrics['images'])} real images. Neither training nor any choice"
        " used them.",
        _pairs({name: value for name, value in metrics.items() if not isinstance(value, (Mapping, list))
                and name not in OWN_SECTION}),
        "### Each label",
        _matrix("label", metrics["per_class"]),
        "### Baselines on the same images",
        _matrix("classifier", metrics["baselines"]),
        _robustness(metrics["robustness"]),
        "## Calibration and abstention",
        _pairs(measured.calibration),
        *(_section(name, value) for name, value in metrics.items()
          if isinstance(value, (Mapping, list)) and name not in OWN_SECTION),
        "## Size, time, hashes",
        _pairs({"parameters": metrics["parameters"], **measured.export}),
        _table(["SHA-256 of", ""], [[name, f"`{digest}`"] for name, digest in manifest.sha256.items()]),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def _details(measured: Measurements) -> str:
    manifest = measured.manifest
    return "## Model details\n\n" + _pairs({
        "version": manifest.version,
        "created": manifest.created,
        "task": f"a small convolutional network reads one {_things(manifest)[0]}",
        "input": f"28x28 grey levels from `model.canonical`, version {manifest.canonical_version}",
        "output": f"a probability for each of {', '.join(manifest.labels)}",
        "git revision": f"{manifest.git_revision}{' with uncommitted changes' if manifest.git_dirty else ''}",
        "run": manifest.run,
        "MLflow run": manifest.mlflow_run_id,
        "licence": "Apache-2.0",
    })  # fmt: skip


def _use(measured: Measurements) -> str:
    """What the model is for, and where it fails. The metrics name the weakest label and the worst distortions."""
    one, all_ = _things(measured.manifest)
    per_class = measured.metrics["per_class"]
    weakest = min(per_class, key=lambda label: per_class[label]["recall"])
    recall = _number("recall", per_class[weakest]["recall"])
    lines = [
        "## Intended use",
        f"The model reads single {all_}, one in a picture. It is made to learn from, and as the skeleton of other"
        " projects. Do not rely on an answer below the abstain threshold: ask a person.",
        "Do not use it for cheques, medical or legal papers, or anything else where a wrong answer that nobody checks"
        f" does harm. Do not use it for several {all_} in one picture, or for pictures of anything else.",
        "## Limits",
        f"- The {one} it reads worst is {weakest}: {recall} of {_number('images', per_class[weakest]['images'])}.",
    ]
    for name, views in measured.metrics["robustness"]["accuracy"].items():
        distortion = DISTORTIONS[name]
        course = [(share, -abs(float(at) - distortion.none), at) for at, share in views["canonical"].items()]
        share, _, at = min(course)  # among equal shares, the one at the greatest severity
        lines.append(f"- {name.capitalize()}: {_number('accuracy', share)} at worst, at {at} ({distortion.unit}).")
    source = measured.source["provenance"]["source"]
    lines += [
        f"- It learnt from the pictures of `{source}`. It reads others worse, such as those of people who write"
        " differently; these figures do not say by how much.",
        f"- Its confidence is calibrated on {all_} like those it learnt from. On other pictures it is less reliable.",
        "- The age and origin of the writers are unknown, so there are no figures for groups of people.",
    ]
    if source != "folder":
        lines.append("- The images hold no personal data beyond the shape of a digit.")
    blocks = [*lines[:4], "\n".join(lines[4:])]
    return "\n\n".join(blocks)


def _things(manifest: Manifest) -> tuple[str, str]:
    """What the model reads, in the singular and in the plural."""
    kind = "handwritten digit" if are_digits(manifest.labels) else "character"
    return kind, f"{kind}s"


def _robustness(robustness: Facts) -> str:
    """A table for each distortion: the accuracy at every severity, without and with `canonical`."""
    blocks = [
        "## Robustness",
        f"The accuracy on {_number('images', robustness['images'])} test images that were distorted on a larger canvas:"
        " *bare* is the network alone, *canonical* is the product, which runs `canonical` first.",
    ]
    for name, views in robustness["accuracy"].items():
        severities = list(next(iter(views.values())))
        rows = [[view, *(_number("accuracy", points[s]) for s in severities)] for view, points in views.items()]
        blocks.append(_table([f"{name}: {DISTORTIONS[name].unit}", *severities], rows))
    return "\n\n".join(blocks)


def _section(name: str, value: Facts | Sequence[Any]) -> str:
    """Any other part of metrics.json: a table if it has rows, otherwise a list of names and values."""
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
    """Shares as percentages, whole numbers with commas, other numbers to four digits, anything else unchanged."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if not SHARES.isdisjoint(name.split(".")):
        return f"{value:.2%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def main() -> None:
    text = card(Measurements.load())
    with stage.writing(paths.CARD) as half:
        half.write_text(text)
    print(f"card: {paths.CARD}, {len(text.splitlines())} lines")


if __name__ == "__main__":
    stage.run(main)
