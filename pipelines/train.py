"""Trains the network on the training split and calibrates it on the validation split."""

import csv
import time
from typing import Literal

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import softmax
from torch import nn
from tqdm import tqdm

from model.augment import Distortion
from model.calibration import abstain_threshold, fit_temperature
from model.networks.cnn import CNN, parameters
from model.training import Epoch, Group, Recipe, logits, train
from pipelines import paths, provenance, stage, tracking, weights
from pipelines.artefacts import Prepared, Split, validation
from pipelines.stage import StageError


class AugmentParams(BaseModel):
    """The fields of `model.augment.Distortion`, with their bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation: float = Field(ge=0, le=45)
    scale: float = Field(ge=0, le=0.5)
    shear: float = Field(ge=0, le=1)
    shift: float = Field(ge=0, le=8)
    elastic: float = Field(ge=0, le=4)
    stroke: float = Field(ge=0, le=1)
    contrast: float = Field(ge=0, le=2)


class TrainParams(stage.Params, section="train"):
    """How the network is built, trained and calibrated."""

    images_seen: int = Field(ge=1_000, le=100_000_000)
    passes: int = Field(ge=0, le=1000)
    reports: int = Field(ge=1, le=1000)
    real_weight: float = Field(gt=0, le=1000)
    drawn: float = Field(ge=0, lt=1)
    outliers: float = Field(ge=0, lt=0.5)
    people: float = Field(gt=0, lt=1)
    batch_size: int = Field(ge=8, le=8192)
    learning_rate: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
    average: float = Field(ge=0, le=1)
    width: int = Field(ge=1, le=128)
    seed: int = Field(ge=0)
    device: Literal["auto", "cpu", "cuda"]
    coverage: float = Field(gt=0, le=1)
    threads: int = Field(ge=1, le=256)
    augment: AugmentParams

    @model_validator(mode="after")
    def _long_enough(self) -> "TrainParams":
        if self.images_seen < 20 * self.batch_size:
            raise ValueError(
                f"at least 20 batches: images_seen of {20 * self.batch_size:,} or more for this batch_size"
            )
        return self


def device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise StageError("params.yaml: train.device is 'cuda', but torch finds no GPU here; allowed: auto, cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def recipe(params: TrainParams, real_images: int) -> Recipe:
    """The recipe that `params` give for this number of real images."""
    seen = max(params.images_seen, params.passes * real_images)
    return Recipe(
        images_seen=seen,
        batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        label_smoothing=params.label_smoothing,
        average=params.average,
        augment=Distortion(**params.augment.model_dump()),
        seed=params.seed,
        report_every=-(-seen // params.reports),
    )


def groups(real: Prepared, synthetic: Prepared, labelled: Prepared, params: TrainParams) -> list[Group]:
    """The parts of a batch: real digits, synthetic digits, pictures without a digit, digits that people labelled."""
    images, labels = real.of(Split.TRAIN)
    synthetic_images, synthetic_labels = synthetic.of(Split.TRAIN)
    is_digit = synthetic_labels < len(synthetic.classes)
    count = int(is_digit.sum())
    share = max(params.drawn, count / (count + params.real_weight * len(images))) if count else 0.0
    outliers = params.outliers if not is_digit.all() else 0.0
    theirs, their_labels = labelled.of(Split.TRAIN)
    people = params.people if len(theirs) else 0.0
    mixture = [
        Group(images, labels, (1 - outliers) * (1 - people) * (1 - share)),
        Group(synthetic_images[is_digit], synthetic_labels[is_digit], (1 - outliers) * (1 - people) * share),
        Group(synthetic_images[~is_digit], synthetic_labels[~is_digit], outliers),
        Group(theirs, their_labels, (1 - outliers) * people),
    ]
    return [group for group in mixture if group.share]


def calibrate(network: nn.Module, validation_images: Group, coverage: float) -> dict[str, float]:
    """The temperature, and the confidence below which the classifier abstains."""
    scores = logits(network, validation_images.images)
    temperature = fit_temperature(scores, validation_images.labels)
    threshold = abstain_threshold(softmax(scores / temperature, axis=1), coverage)
    return {"temperature": temperature, "abstain_below": threshold, "coverage": coverage}


def accuracy(network: nn.Module, prepared: Prepared) -> float:
    """The accuracy on the validation split."""
    images, labels = prepared.of(Split.VALIDATION)
    return float((logits(network, images).argmax(axis=1) == labels).mean())


def start(real: Prepared, synthetic: Prepared, labelled: Prepared) -> tracking.Run:
    """Starts the run of this execution of the pipeline, with its parameters, hashes and data set."""
    tags = {
        "git.revision": str(provenance.git_revision()),
        "git.dirty": str(provenance.git_dirty()).lower(),
        "data.sha256": provenance.data_hash(),
        "labels.sha256": provenance.labels_hash(),
        "params.sha256": provenance.params_hash(),
    }
    run = tracking.Run.start(tags, stage.flat(yaml.safe_load(paths.PARAMS.read_text())))
    counts = {which.name.lower(): int((real.splits == which).sum()) for which in Split}
    counts["synthetic"] = int((synthetic.splits == Split.TRAIN).sum())
    counts["labelled by people"] = int((labelled.splits == Split.TRAIN).sum())
    run.dataset(paths.PREPARED.stem, str(paths.PREPARED), tags["data.sha256"][:36], {"rows": counts, "shape": [28, 28]})
    return run


def main() -> None:
    params = TrainParams.load()
    on = device(params.device)
    real, synthetic, labelled = map(Prepared.load, (paths.PREPARED, paths.SYNTHETIC, paths.LABELS))
    validation_images = Group(*validation(real, synthetic))
    plan = recipe(params, int((real.splits == Split.TRAIN).sum()))
    torch.set_num_threads(params.threads)
    torch.manual_seed(params.seed)
    torch.use_deterministic_algorithms(on.type == "cpu")  # CUDA lacks deterministic forms of some operations used here
    network = CNN(params.width, len(real.classes)).to(on).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster on 2 cores
    reports: list[Epoch] = []
    bar = tqdm(total=plan.images_seen, desc=f"train on {on}", unit="image", unit_scale=True)
    with start(real, synthetic, labelled) as run, bar:
        started = time.perf_counter()
        for report in train(network, groups(real, synthetic, labelled, params), validation_images, plan):
            run.metrics(
                {"loss": report.loss, "validation_loss": report.validation_loss,
                 "validation_accuracy": report.validation_accuracy}, step=report.epoch)  # fmt: skip
            reports.append(report)
            bar.set_postfix(loss=f"{report.loss:.3f}", val=f"{report.validation_accuracy:.2%}")
            bar.update(min(report.images_seen, plan.images_seen) - bar.n)
        seconds = time.perf_counter() - started
        calibration = calibrate(network, validation_images, params.coverage) | {
            f"validation_accuracy_{name}": accuracy(network, images)
            for name, images in (("real", real), ("drawn", synthetic))
            if (images.splits == Split.VALIDATION).any()
        }
        run.metrics(calibration | {"parameters": parameters(network), "training_seconds": seconds})
        weights.save(network.cpu(), params.width, len(real.classes))
        with stage.writing(paths.TRAINING) as half, half.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(Epoch.__annotations__))
            writer.writeheader()
            writer.writerows(vars(report) for report in reports)
        stage.write_json(paths.CALIBRATION, calibration)
        run.artifact(paths.TRAINING)
    stage.write_json(paths.RUN, run.saved())
    print(f"train: {reports[-1].validation_accuracy:.2%} of the validation split after {plan.images_seen:,} images in"
          f" {seconds:.0f} s")  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
