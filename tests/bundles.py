"""A real bundle in milliseconds: a linear model over synthetic digits, or over letters, without torch or training."""

import hashlib
import io
import json
import string
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont

from model import bundle, canonical
from model.drift import Reference
from model.statistics import measure
from model.synthetic import draw

DIGITS = np.stack(
    [canonical.canonical(np.rint(draw(d, size=60, pen=0.1, canvas=(90, 90)) * 255).astype(np.uint8)) for d in range(10)]
)


def letter(text: str) -> np.ndarray:
    """A printed letter, dark on white, 90 x 90."""
    image = Image.new("L", (90, 90), 255)
    ImageDraw.Draw(image).text((45, 45), text, 0, ImageFont.load_default(60), anchor="mm")
    return np.asarray(image)


ALPHABET = "ABCDEFGHIJKLNOPQRSTUVXYZ"  # `canonical` takes M and W for texture, as long as it is set up for digits
LETTERS = np.stack([canonical.canonical(letter(text)) for text in ALPHABET])


def linear_model(sharpness: float = 20.0, images: np.ndarray = DIGITS) -> bytes:
    """An ONNX file that answers which of `images` (n x 28 x 28) a picture is most like."""
    count = len(images)
    templates = images.reshape(count, -1).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("LpNormalization", ["flat"], ["unit"], axis=1, p=2),
            helper.make_node("MatMul", ["unit", "templates"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["prob"], axis=1),
            helper.make_node("MatMul", ["unit", "components"], ["features"]),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 28, 28])],
        [
            helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["n", count]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", bundle.FEATURES]),
        ],
        [
            numpy_helper.from_array(np.ascontiguousarray(templates.T) * np.float32(sharpness), "templates"),
            numpy_helper.from_array(np.ascontiguousarray(templates[: bundle.FEATURES].T), "components"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def put_file(folder: Path, name: str, data: bytes) -> None:
    """Writes `data` as a file of the bundle in `folder`, and its hash into the manifest."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / bundle.MANIFEST).read_text())
    digest = hashlib.sha256(data).hexdigest()
    if name == bundle.MODEL:
        manifest["sha256"]["model"], manifest["version"] = digest, digest[:12]
    else:
        manifest["sha256"][name] = digest
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest))


def make_bundle(
    folder: Path,
    model: bytes | None = None,
    *,
    unproved: bool = False,
    labels: str = string.digits,
    images: np.ndarray = DIGITS,
    reference: bytes | None = None,
    hashes: Mapping[str, str] = {"data": "d" * 64, "params": "p" * 64},
    **changes: object,
) -> bundle.Manifest:
    """Writes a bundle whose golden answers are its own, and its reference's, with `changes` to its identity."""
    import onnxruntime as ort

    model = model or linear_model(images=images)
    session = ort.InferenceSession(linear_model() if unproved else model, providers=["CPUExecutionProvider"])
    pixels = {"image": images[:, None].astype(np.float32) / np.float32(255)}
    [prob] = session.run(["prob"], pixels)
    if reference is None:
        values = measure(prob, images, session.run(["features"], pixels)[0])
        reference = Reference.of(values, np.ones(len(images), bool)).dumps()
    identity: dict[str, object] = {
        "name": "neocog",
        "created": "2026-01-01T00:00:00+00:00",
        "canonical_version": canonical.VERSION,
        "git_revision": None,
        "git_dirty": None,
        "run": "a-run",
        "mlflow_run_id": None,
        "temperature": 1.0,
        "abstain_below": 0.5,
    }
    return bundle.write(
        folder,
        model=model,
        golden=bundle.Golden(encoded=[png(image) for image in images], pixels=images, prob=prob),
        reference=reference,
        hashes=hashes,
        identity=identity | changes,
        metrics={"accuracy": 1.0},
        labels=labels,
    )
