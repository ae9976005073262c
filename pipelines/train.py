"""Trains the network on the training split, and calibrates it on the validation split."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import softmax
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from model.augment import Distortion, distorted
from model.calibration import abstain_threshold, fit_temperature
from model.canonical import Pixels
from model.networks.cnn import CNN, parameters
from pipelines import paths, provenance, stage, tracking
from pipelines.prepare import Prepared, Split
from pipelines.stage import StageError

WARM_UP: Final = 0.2  # share of the steps in which the learning rate rises


class AugmentParams(BaseModel):
    """The fields of `Distortion`, with their bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rotation: float = Field(ge=0, le=45)
    scale: float = Field(ge=0, le=0.5)
    shear: float = Field(ge=0, le=1)
    shift: float = Field(ge=0, le=8)
    elastic: float = Field(ge=0, le=4)
    stroke: float = Field(ge=0, le=1)


class TrainParams(stage.Params, section="train"):
    """How the network is built, trained and calibrated."""

    images_seen: int = Field(ge=1_000, le=100_000_000)
    report_every: int = Field(ge=1_000)
    batch_size: int = Field(ge=8, le=8192)
    learning_rate: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0, le=1)
    label_smoothing: float = Field(ge=0, lt=1)
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


@dataclass(frozen=True)
class Epoch:
    """What is reported each time `report_every` images, and at the least one pass over the data, were seen."""

    epoch: int
    images_seen: int
    loss: float  # mean training loss since the last report, label smoothing included
    validation_loss: float  # cross-entropy
    validation_accuracy: float


def tensor(pixels: Pixels) -> Tensor:
    """n x 28 x 28 uint8 -> n x 1 x 28 x 28 float32 in 0..1."""
    return torch.from_numpy(pixels).unsqueeze(1).float() / 255


@torch.inference_mode()
def logits(network: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """n x 1 x 28 x 28 -> n x 10, in evaluation mode, in batches that fit anywhere."""
    network.eval()
    found: NDArray[np.float32] = torch.cat([network(batch) for batch in torch.split(images, 1024)]).cpu().numpy()
    network.train()
    return found


def device(wanted: str) -> torch.device:
    if wanted == "cuda" and not torch.cuda.is_available():
        raise StageError("params.yaml: train.device is 'cuda', and torch finds no GPU here; allowed: auto, cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def train(network: nn.Module, prepared: Prepared, params: TrainParams, on: torch.device) -> Iterator[Epoch]:
    """Trains `network` in place, a report at a time; the last report is of the trained network.

    All data lies on the device and is distorted there, batch by batch.
    """
    pixels, digits = prepared.of(Split.TRAIN)
    images, labels = tensor(pixels).to(on), torch.from_numpy(digits).long().to(on)
    pixels, digits = prepared.of(Split.VALIDATION)
    validation, truth = tensor(pixels).to(on), torch.from_numpy(digits).long()

    generator = torch.Generator(on).manual_seed(params.seed)
    by = Distortion(**params.augment.model_dump())
    steps = -(-params.images_seen // params.batch_size)
    report = -(-max(params.report_every, len(images)) // params.batch_size)
    optimizer = torch.optim.AdamW(
        network.parameters(), params.learning_rate, weight_decay=params.weight_decay, fused=True
    )
    schedule = OneCycleLR(optimizer, params.learning_rate, total_steps=steps, pct_start=WARM_UP)
    order = torch.empty(0, dtype=torch.long, device=on)
    losses: list[Tensor] = []
    for step in range(1, steps + 1):
        while len(order) < params.batch_size:  # a small data set is passed more than once in a batch
            order = torch.cat([order, torch.randperm(len(images), generator=generator, device=on)])
        batch, order = order[: params.batch_size], order[params.batch_size :]
        found = network(distorted(images[batch], by, generator))
        loss = functional.cross_entropy(found, labels[batch], label_smoothing=params.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        if step % report == 0 or step == steps:
            scores = torch.from_numpy(logits(network, validation))
            yield Epoch(
                epoch=-(-step // report),
                images_seen=step * params.batch_size,
                loss=torch.stack(losses).mean().item(),
                validation_loss=functional.cross_entropy(scores, truth).item(),
                validation_accuracy=(scores.argmax(dim=1) == truth).float().mean().item(),
            )
            losses.clear()


def calibrate(network: nn.Module, prepared: Prepared, coverage: float, on: torch.device) -> dict[str, float]:
    """The temperature, and the confidence below which to abstain, both from the validation split."""
    pixels, labels = prepared.of(Split.VALIDATION)
    scores = logits(network, tensor(pixels).to(on))
    temperature = fit_temperature(scores, labels)
    threshold = abstain_threshold(softmax(scores / temperature, axis=1), coverage)
    return {"temperature": temperature, "abstain_below": threshold, "coverage": coverage}


def start(prepared: Prepared) -> tracking.Run:
    """The run of this execution of the pipeline, with all that was known before it began."""
    tags = {
        "git.revision": str(provenance.git_revision()),
        "git.dirty": str(provenance.git_dirty()).lower(),
        "data.sha256": provenance.data_hash(),
        "params.sha256": provenance.params_hash(),
    }
    run = tracking.Run.start(tags, stage.flat(yaml.safe_load(paths.PARAMS.read_text())))
    counts = {which.name.lower(): int((prepared.splits == which).sum()) for which in Split}
    run.dataset(paths.PREPARED.stem, str(paths.PREPARED), tags["data.sha256"][:36], {"rows": counts, "shape": [28, 28]})
    return run


def trained() -> tuple[CNN, dict[str, float]]:
    """The network that `train` wrote, on the CPU, and its calibration."""
    saved = torch.load(paths.WEIGHTS, weights_only=True)
    network = CNN(saved["width"])
    network.load_state_dict(saved["weights"])
    calibration: dict[str, float] = json.loads(paths.CALIBRATION.read_text())
    return network, calibration


def main() -> None:
    params = TrainParams.load()
    on = device(params.device)
    prepared = Prepared.load(paths.PREPARED)
    torch.set_num_threads(params.threads)
    torch.manual_seed(params.seed)
    torch.use_deterministic_algorithms(on.type == "cpu")  # CUDA has no deterministic form of all that is used
    network = CNN(params.width).to(on).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a fifth faster on 2 cores
    reports: list[Epoch] = []
    bar = tqdm(total=params.images_seen, desc=f"train on {on}", unit="image", unit_scale=True)
    with start(prepared) as run, bar:
        for report in train(network, prepared, params, on):
            run.metrics(
                {"loss": report.loss, "validation_loss": report.validation_loss,
                 "validation_accuracy": report.validation_accuracy}, step=report.epoch)  # fmt: skip
            reports.append(report)
            bar.set_postfix(epoch=report.epoch, loss=f"{report.loss:.3f}", val=f"{report.validation_accuracy:.2%}")
            bar.update(min(report.images_seen, params.images_seen) - bar.n)
        calibration = calibrate(network, prepared, params.coverage, on)
        run.metrics({"temperature": calibration["temperature"], "abstain_below": calibration["abstain_below"],
                     "parameters": parameters(network)})  # fmt: skip
        with stage.writing(paths.WEIGHTS) as half:
            torch.save({"width": params.width, "weights": network.cpu().state_dict()}, half)
        with stage.writing(paths.TRAINING) as half, half.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(Epoch.__annotations__))
            writer.writeheader()
            writer.writerows(vars(report) for report in reports)
        stage.write_json(paths.CALIBRATION, calibration)
        run.artifact(paths.TRAINING)
    stage.write_json(paths.RUN, run.saved())
    print(f"train: {reports[-1].validation_accuracy:.2%} of the validation split after {params.images_seen:,} images")


if __name__ == "__main__":
    stage.run(main)
