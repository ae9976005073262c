"""The training loop of every network in the line-up. Images stay on the network's device and are distorted there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

from model.augment import Distortion, distorted
from model.canonical import Pixels

WARM_UP: Final = 0.2  # share of the steps in which the learning rate rises


@dataclass(frozen=True)
class Group:
    """Images of one kind, and their share of every batch."""

    images: Pixels  # n x 28 x 28, from `canonical`
    labels: NDArray[np.uint8]  # n; for a picture of no class, the number of classes
    share: float = 1  # relative to the shares of the other groups


@dataclass(frozen=True)
class Recipe:
    """How a network is trained."""

    images_seen: int
    batch_size: int
    learning_rate: float  # at the peak of the one-cycle schedule
    weight_decay: float
    label_smoothing: float
    average: float  # the last share of the training, over which the weights are averaged; 0 keeps the last weights
    augment: Distortion | None
    seed: int
    report_every: int  # images


@dataclass(frozen=True)
class Epoch:
    """The report after every `report_every` images."""

    epoch: int
    images_seen: int
    loss: float  # mean training loss since the last report, label smoothing included
    validation_loss: float  # cross-entropy
    validation_accuracy: float


def tensor(pixels: Pixels) -> Tensor:
    """n x 28 x 28 uint8 -> n x 1 x 28 x 28 float32 in 0..1."""
    return torch.from_numpy(pixels).unsqueeze(1).float() / 255


@torch.inference_mode()
def logits(network: nn.Module, pixels: Pixels) -> NDArray[np.float32]:
    """n x 28 x 28 uint8 -> n x classes logits, in evaluation mode, on the network's device, in batches of 1,024."""
    on = next(network.parameters()).device
    training = network.training
    network.eval()
    batches = [network(tensor(pixels[at : at + 1024]).to(on)).float().cpu() for at in range(0, len(pixels), 1024)]
    network.train(training)
    scores: NDArray[np.float32] = torch.cat(batches).numpy()
    return scores


def train(network: nn.Module, groups: Sequence[Group], validation: Group, recipe: Recipe) -> Iterator[Epoch]:
    """Trains `network` in place and yields reports. The last report is of the trained network.

    Every batch has its share of each group. All images are on the network's device as bytes; they are mixed, distorted
    and read there. A GPU computes in bfloat16 if it supports that.
    """
    on = next(network.parameters()).device
    generator = torch.Generator(on).manual_seed(recipe.seed)
    sources = [_endless(group, count, on, generator) for group, count in _counts(groups, recipe.batch_size)]
    steps = -(-recipe.images_seen // recipe.batch_size)
    report = -(-recipe.report_every // recipe.batch_size)
    optimizer = torch.optim.AdamW(
        network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=WARM_UP)
    average = _Average(network, first=steps - round(recipe.average * steps))
    halves = on.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    losses: list[Tensor] = []
    network.train()
    for step in range(1, steps + 1):
        parts = [next(source) for source in sources]
        images = torch.cat([images for images, _ in parts]).unsqueeze(1).float().div_(255)
        targets = torch.cat([labels for _, labels in parts])
        if recipe.augment:
            images = distorted(images, recipe.augment, generator)
        with torch.autocast(on.type, torch.bfloat16, enabled=halves):
            outputs = network(images)
        loss = _loss(outputs.float(), targets, recipe.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        average.add(network, step)
        losses.append(loss.detach())
        if step == steps:
            average.into(network)
        if step % report == 0 or step == steps:
            scores, truth = (
                torch.from_numpy(logits(network, validation.images)),
                torch.from_numpy(validation.labels).long(),
            )
            yield Epoch(
                epoch=-(-step // report),
                images_seen=step * recipe.batch_size,
                loss=torch.stack(losses).mean().item(),
                validation_loss=functional.cross_entropy(scores, truth).item(),
                validation_accuracy=(scores.argmax(dim=1) == truth).float().mean().item(),
            )
            losses.clear()


def _counts(groups: Sequence[Group], batch_size: int) -> list[tuple[Group, int]]:
    """The number of images of each group in a batch. The first group gets the remainder of the rounding."""
    total = sum(group.share for group in groups)
    counts = [round(batch_size * group.share / total) for group in groups]
    counts[0] += batch_size - sum(counts)
    return [(group, count) for group, count in zip(groups, counts, strict=True) if count]


def _endless(group: Group, count: int, on: torch.device, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """`count` images and labels at a time. Every image comes once before any comes again."""
    images, labels = torch.from_numpy(group.images).to(on), torch.from_numpy(group.labels).long().to(on)
    order = torch.empty(0, dtype=torch.long, device=on)
    while True:
        while len(order) < count:  # a batch may need a small group more than once
            order = torch.cat([order, torch.randperm(len(images), generator=generator, device=on)])
        chosen, order = order[:count], order[count:]
        yield images[chosen], labels[chosen]


def _loss(outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy with the label; without a class, with the uniform distribution (Hendrycks et al. 2019)."""
    classes = outputs.shape[1]
    log_prob = functional.log_softmax(outputs, dim=1)
    outlier = (labels == classes).float()
    spread = smoothing + (1 - smoothing) * outlier  # the share of the target that is uniform over all classes
    of_label = log_prob.gather(1, labels.clamp(max=classes - 1).unsqueeze(1)).squeeze(1)
    return -((1 - spread) * of_label + spread * log_prob.mean(dim=1)).mean()


class _Average:
    """The mean of the weights after step `first` (Izmailov et al. 2018), with the statistics of batch normalisation."""

    EVERY: Final = 8  # steps between two samples; the weights hardly change in fewer

    def __init__(self, network: nn.Module, first: int) -> None:
        self._first, self._count = first, 0
        self._mean = [torch.zeros_like(value) for value in self._values(network)]

    def add(self, network: nn.Module, step: int) -> None:
        if step > self._first and (step - self._first) % self.EVERY == 0:
            self._count += 1
            torch._foreach_lerp_(self._mean, self._values(network), 1 / self._count)

    def into(self, network: nn.Module) -> None:
        if self._count:
            torch._foreach_copy_(self._values(network), self._mean)

    @staticmethod
    def _values(network: nn.Module) -> list[Tensor]:
        return [value.detach() for value in network.state_dict().values() if value.is_floating_point()]
