"""Measures what labels are worth, by how they are chosen: at random, where the model is least sure, or as /label does.

    python -m bench.labelling path/to/mnist out/champion

A tenth of the traffic comes from new writers: they slash zeros, give ones a foot, cross sevens, or write at a slant.
The bundle's model reads them badly. From a pool of MNIST's training images, of which a share was changed so, pictures
are chosen and labelled. Then the model's last layer is fitted again, to the labels and to unchanged images, and reads
other images of the same mixture: MNIST's test images. Each seed has another pool and other changes.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from bench import command
from model.bundle import MODEL
from model.canonical import Pixels, canonical_batch
from model.selection import choose, margins
from pipelines import ingest
from pipelines.artefacts import Source
from pipelines.stage import StageError

SIZES: Final = (0, 20, 40, 80, 160, 320, 640)  # labels
POOL, TEST, REPLAY = 5_000, 10_000, 2_000  # images
AUDITS: Final = 10  # of so many pictures of /label, one is drawn at random
STAY: Final = 1e-3  # how strongly the last layer is kept near to what it was


class Images(NamedTuple):
    """Images as the model's last layer sees them."""

    pixels: Pixels  # n x 28 x 28
    features: NDArray[np.float32]  # n x d
    probabilities: NDArray[np.float32]  # n x 10
    labels: NDArray[np.int64]
    new: NDArray[np.bool_]  # by the new writers


class Model:
    """A bundle's network up to its last layer, and that layer."""

    def __init__(self, folder: Path) -> None:
        made = onnx.load(folder / MODEL)
        last = [node for node in made.graph.node if node.op_type == "Gemm"][-1:]
        if not last:
            raise StageError(f"{folder}: the network does not end in a fully connected layer")
        arrays = {array.name: onnx.numpy_helper.to_array(array) for array in made.graph.initializer}
        self.weight, self.bias = arrays[last[0].input[1]], arrays[last[0].input[2]]
        self._inner = last[0].input[0]
        made.graph.output.append(onnx.helper.make_tensor_value_info(self._inner, onnx.TensorProto.FLOAT, None))
        self._session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])

    def __call__(self, pixels: Pixels, labels: NDArray[np.int64], new: NDArray[np.bool_]) -> Images:
        parts = [
            self._session.run([self._inner, "prob"], {"image": part[:, None].astype(np.float32) / np.float32(255)})
            for part in np.array_split(pixels, max(1, len(pixels) // 500))
        ]
        features, probabilities = (np.concatenate(found) for found in zip(*parts, strict=True))
        return Images(pixels, features, probabilities, labels, new)


def foreign(pixels: Pixels, label: int, rng: Generator) -> Pixels:
    """A 28 x 28 digit as the new writers write it: bright ink on black."""
    large = Image.fromarray(pixels).resize((112, 112), Image.Resampling.BICUBIC)
    ys, xs = np.nonzero(np.asarray(large) > 100)
    left, right, top, bottom = xs.min(), xs.max(), ys.min(), ys.max()
    pen, sketch = int(rng.integers(7, 13)), ImageDraw.Draw(large)
    middle = (top + bottom) / 2 + rng.uniform(-6, 6)
    if label == 0:
        sketch.line([(right + rng.uniform(0, 8), top), (left - rng.uniform(0, 8), bottom)], 255, pen)
    elif label == 1:
        foot = rng.uniform(14, 26)
        centre = float(xs[ys > bottom - 8].mean())
        sketch.line([(centre - foot, bottom - pen / 2), (centre + foot, bottom - pen / 2)], 255, pen)
        head = float(xs[ys < top + 8].mean())
        sketch.line([(head, top + pen / 2), (head - rng.uniform(14, 26), top + rng.uniform(14, 28))], 255, pen)
    elif label == 7:
        centre = float(xs[np.abs(ys - middle) < 4].mean())
        sketch.line([(centre - 22, middle + rng.uniform(-4, 4)), (centre + 22, middle + rng.uniform(-4, 4))], 255, pen)
    else:
        large = large.rotate(rng.uniform(25, 45) * rng.choice([-1, 1]), Image.Resampling.BICUBIC)
    return np.asarray(large.resize((28, 28), Image.Resampling.BOX))


def mixture(model: Model, images: Pixels, labels: NDArray[np.int64], share: float, rng: Generator) -> Images:
    """`images`, of which a `share` is written anew, as `canonical` makes them."""
    new = rng.random(len(images)) < share
    written = [
        foreign(image, int(label), rng) if other else image
        for image, label, other in zip(images, labels, new, strict=True)
    ]
    pixels, refused = canonical_batch(written)
    kept = [row for row in range(len(written)) if row not in refused]
    return model(pixels[kept], labels[kept], new[kept])


def at_random(pool: Images, count: int, rng: Generator) -> list[int]:
    return [int(row) for row in rng.permutation(len(pool.pixels))[:count]]


def least_sure(pool: Images, count: int, _: Generator) -> list[int]:
    return [int(row) for row in np.argsort(margins(pool.probabilities), kind="stable")[:count]]


def as_label_does(pool: Images, count: int, rng: Generator) -> list[int]:
    """One in `AUDITS` at random, from a part of the pool that is set aside; the others as `model.selection` says."""
    aside = rng.random(len(pool.pixels)) < 1 / AUDITS
    audits, rest = np.flatnonzero(aside), np.flatnonzero(~aside)
    taken = [int(row) for row in rng.permutation(audits)[: count // AUDITS]]
    found = choose(pool.probabilities[rest], pool.pixels[rest], count - len(taken), labelled=[0] * 10)
    return taken + [int(rest[one.row]) for one in found]


WAYS: Final[dict[str, Callable[[Images, int, Generator], list[int]]]] = {
    "random": at_random, "least sure": least_sure, "/label": as_label_does,
}  # fmt: skip


def accuracy(model: Model, pool: Images, chosen: Sequence[int], old: Images, test: Images) -> float:
    """Of the model whose last layer was fitted to `old` images and the `chosen` ones of the pool, on `test`.

    The two weigh the same from 100 labels on, and fewer labels weigh less: 20 of them a fifth.
    """
    weight = torch.tensor(model.weight.copy(), requires_grad=True)
    bias = torch.tensor(model.bias.copy(), requires_grad=True)
    first, picked = torch.tensor(model.weight), torch.tensor(pool.features[list(chosen)])
    said, known = torch.tensor(pool.labels[list(chosen)]), torch.tensor(old.labels)
    replay, share = torch.tensor(old.features), min(1.0, len(chosen) / 100)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimizer.zero_grad()
        total = torch.nn.functional.cross_entropy(replay @ weight.T + bias, known)
        total = total + share * torch.nn.functional.cross_entropy(picked @ weight.T + bias, said)
        total = total + STAY * ((weight - first) ** 2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    if chosen:
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        read = (torch.tensor(test.features) @ weight.T + bias).argmax(dim=1).numpy()
    return float((read == test.labels).mean())


def curves(model: Model, source: Source, share: float, seed: int) -> dict[str, list[float]]:
    """The accuracy of each way for each of `SIZES`, with one seed."""
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(np.flatnonzero(~source.is_test))[: POOL + REPLAY]
    tested = rng.permutation(np.flatnonzero(source.is_test))[:TEST]
    labels = source.labels.astype(np.int64)
    pool = mixture(model, source.images[drawn[:POOL]], labels[drawn[:POOL]], share, rng)
    old = mixture(model, source.images[drawn[POOL:]], labels[drawn[POOL:]], 0.0, rng)
    test = mixture(model, source.images[tested], labels[tested], share, rng)
    return {
        name: [accuracy(model, pool, way(pool, size, rng), old, test) for size in SIZES] for name, way in WAYS.items()
    }


def needed(curve: Sequence[float], goal: float) -> str:
    """With how many labels a curve first reaches `goal`, by linear interpolation."""
    for place in range(1, len(SIZES)):
        if curve[place] >= goal:
            low, high = curve[place - 1], curve[place]
            part = 1.0 if high <= low else min(1.0, max(0.0, (goal - low) / (high - low)))
            return f"{SIZES[place - 1] + part * (SIZES[place] - SIZES[place - 1]):.0f}"
    return f"> {SIZES[-1]}"


def main() -> None:
    parser = command.Parser("labelling", __doc__)
    parser.add_argument("mnist", type=command.mnist, help="the folder with MNIST's four .gz files")
    parser.add_argument("bundle", type=command.bundle)
    parser.add_argument("--seeds", type=command.count, default=3)
    parser.add_argument("--share", type=_share, default=0.1, help="of the pictures that the new writers write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ingest.check(arguments.mnist)
    source, model = ingest.mnist(arguments.mnist), Model(arguments.bundle)
    runs = [curves(model, source, arguments.share, seed) for seed in tqdm(range(arguments.seeds), disable=None)]
    print(f"accuracy in % by labels, mean of {arguments.seeds} seeds (least to most)")
    values = {name: 100 * np.array([run[name] for run in runs]) for name in WAYS}
    means = {name: found.mean(axis=0).tolist() for name, found in values.items()}
    print("labels" + "".join(f"{name:>24}" for name in WAYS))
    for place, size in enumerate(SIZES):
        columns = [found[:, place] for found in values.values()]
        cells = [f"{column.mean():.2f} ({column.min():.2f} to {column.max():.2f})" for column in columns]
        print(f"{size:6}" + "".join(f"{cell:>24}" for cell in cells))
    for place in range(2, len(SIZES)):
        goal = means["random"][place]
        others = ", ".join(f"{name} with {needed(means[name], goal)}" for name in list(WAYS)[1:])
        print(f"{goal:.2f} %: random with {SIZES[place]} labels, {others}")


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0, at most 1")
    return value


if __name__ == "__main__":
    command.run(main)
