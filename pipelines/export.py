"""Exports the trained network as the bundle that is served, and checks that both give the same answers."""

import io
import json
import logging
import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from scipy.linalg import eigh
from torch import Tensor, nn

from model import bundle, canonical
from model.bundle import FEATURES, Golden
from model.canonical import Pixels
from model.drift import Reference
from model.networks.cnn import CNN
from model.predictor import Predictor
from model.statistics import measure
from model.training import tensor
from pipelines import paths, provenance, stage, tracking, weights
from pipelines.artefacts import Prepared, Split, validation
from pipelines.stage import StageError
from pipelines.timing import inference_us

OPSET: Final = 20
EXIF_ORIENTATION: Final = 0x0112
LEAST_VARIANCE: Final = 1e-12  # of a feature that is the same for every image; 0 could not be divided by


class ExportParams(stage.Params, section="export"):
    """What the bundle holds, and how exact it must be."""

    max_difference: float = Field(gt=0, le=1e-2)
    golden: int = Field(ge=1)


class Served(nn.Module):
    """n x 1 x 28 x 28 in 0..1 -> n x classes probabilities, with temperature and softmax, and n x 4 features.

    `components` is linear, from the layer before the last to the features.
    """

    def __init__(self, network: CNN, temperature: float, components: nn.Linear) -> None:
        super().__init__()
        self.network, self.temperature, self.components = network, temperature, components

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.network.features(image)
        return torch.softmax(self.network.head(maps) / self.temperature, dim=1), self.components(maps.flatten(1))


def principal_components(network: CNN, pixels: Pixels) -> nn.Linear:
    """The linear layer from the layer before the last to its first 4 principal components on n x 28 x 28 `pixels`.

    Each has mean 0 and variance 1 there. The greatest weight of each is positive, so that the sign is not left to the
    numerical library.
    """
    with torch.inference_mode():
        batches = [network.features(batch).flatten(1) for batch in torch.split(tensor(pixels), 1024)]
    maps = torch.cat(batches).double().numpy()
    mean = maps.mean(axis=0)
    size = len(mean)
    covariance = (maps - mean).T @ (maps - mean) / len(maps)
    variance, directions = eigh(covariance, subset_by_index=(size - FEATURES, size - 1))
    weights = directions.T[::-1] / np.sqrt(np.maximum(variance[::-1, None], LEAST_VARIANCE))
    weights *= np.sign(weights[np.arange(FEATURES), np.abs(weights).argmax(axis=1)])[:, None]
    layer = nn.Linear(size, FEATURES)
    layer.load_state_dict({"weight": torch.from_numpy(weights), "bias": torch.from_numpy(-weights @ mean)})
    return layer


def to_onnx(network: Served) -> bytes:
    """The ONNX file of `network`, for any number of images in a call. The same weights give the same bytes.

    The exporter's notes about the source code are removed, because they name folders of this machine.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about torch's own code
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            network.eval(),
            (torch.zeros(2, 1, 28, 28),),
            path,
            input_names=["image"],
            output_names=["prob", "features"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
            dynamo=True,
        )
        model = onnx.load(path)
    del model.metadata_props[:]
    graph = model.graph
    del graph.metadata_props[:]
    graph.doc_string = model.doc_string = ""
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def golden(prepared: Prepared, network: Served, count: int) -> Golden:
    """One validation image of each of the first `count` classes, encoded as people send them, with torch's answers.

    The images take turns: white on black in a corner, dark on grey paper, on a transparent canvas, and turned by EXIF.
    Any change of `canonical` then changes at least one of them.
    """
    images, labels = prepared.of(Split.VALIDATION)
    chosen = [int(np.flatnonzero(labels == label)[0]) for label in range(min(count, len(prepared.classes)))]
    encoded = [_encoded(images[row], number) for number, row in enumerate(chosen)]
    pixels = np.stack([canonical.canonical(Image.open(io.BytesIO(data))) for data in encoded])
    with torch.inference_mode():
        prob, _ = network(tensor(pixels))
    return Golden(encoded=encoded, pixels=pixels, prob=prob.numpy())


def _encoded(pixels: Pixels, number: int) -> bytes:
    ink = np.pad(np.kron(pixels, np.ones((3, 3), np.uint8)), ((5, 40), (30, 10)))
    exif = Image.Exif()
    match number % 4:
        case 0:
            image = Image.fromarray(ink)
        case 1:
            paper = np.rint(220 - ink * (180 / 255)) + np.arange(ink.shape[1]) % 3  # with a grain of two levels
            image = Image.fromarray(paper.astype(np.uint8))
        case 2:
            image = Image.new("LA", ink.shape[::-1], (20, 0))
            image.putalpha(Image.fromarray(ink))
        case _:
            image = Image.fromarray(np.rot90(ink))
            exif[EXIF_ORIENTATION] = 6
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    return file.getvalue()


def reference(model: bytes, pixels: Pixels, labels: NDArray[np.uint8]) -> Reference:
    """The statistics of n x 28 x 28 labelled `pixels`, measured on ONNX Runtime's answers, as in production."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    images = pixels[:, None].astype(np.float32) / np.float32(255)
    prob, features = session.run(["prob", "features"], {"image": images})
    return Reference.of(measure(prob, pixels, features), prob.argmax(axis=1) == labels)


def main() -> None:
    params = ExportParams.load()
    prepared = Prepared.load(paths.PREPARED)
    uncalibrated, calibration = weights.load()
    watched = validation(prepared, Prepared.load(paths.SYNTHETIC))
    components = principal_components(uncalibrated.eval(), watched[0])
    network = Served(uncalibrated, calibration["temperature"], components).eval()
    run = tracking.Run.resume()
    metrics = json.loads(paths.METRICS.read_text())
    hashes = {
        "data": provenance.data_hash(),
        "labels": provenance.labels_hash(),
        "params": provenance.params_hash(),
    }
    identity = {
        "name": tracking.NAME,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "canonical_version": canonical.VERSION,
        "git_revision": provenance.git_revision(),
        "git_dirty": provenance.git_dirty(),
        "temperature": calibration["temperature"],
        "abstain_below": calibration["abstain_below"],
        **run.identity(),
    }
    model = to_onnx(network)
    manifest = bundle.write(
        paths.BUNDLE,
        model=model,
        golden=golden(prepared, network, params.golden),
        reference=reference(model, *watched).dumps(),
        hashes=hashes,
        identity=identity,
        metrics={name: value for name, value in metrics.items() if not isinstance(value, dict)},
        labels=prepared.classes,
    )
    images, _ = prepared.of(Split.TEST)
    with torch.inference_mode():
        judged = torch.cat([network(batch)[0] for batch in torch.split(tensor(images), 1024)]).numpy()
    predictor = Predictor.load(paths.BUNDLE)
    served = predictor.probabilities(images)
    difference = float(np.abs(served - judged).max())
    if not difference <= params.max_difference:
        raise StageError(
            f"ONNX Runtime and torch differ by {difference:.2g} of probability on the test split;"
            f" export.max_difference allows {params.max_difference:.0e}"
        )
    size = (paths.BUNDLE / bundle.MODEL).stat().st_size
    cost = {"model_bytes": size, "inference_us": round(inference_us(predictor, images[0]), 1)}
    stage.write_json(paths.EXPORT, {"images": len(images), "max_difference": difference, **cost})
    run.metrics({f"export.{name}": value for name, value in {"max_difference": difference, **cost}.items()})
    tags = {f"{name}.sha256": manifest.sha256[name] for name in ("model", "data", "params")}
    run.register(paths.BUNDLE, tags | {"version": manifest.version, "git.revision": str(manifest.git_revision)})
    print(f"export: model {manifest.version}, {size:,} bytes; ONNX Runtime equals torch within {difference:.1e}"
          f" on {len(images):,} test images")  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
