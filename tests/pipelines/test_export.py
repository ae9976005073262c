"""The exported model is the trained network."""

import io

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from PIL import Image

from model.canonical import canonical
from model.networks.cnn import CNN
from model.predictor import TOLERANCE
from model.training import tensor
from pipelines.artefacts import Prepared, Split
from pipelines.export import Calibrated, golden, reference, to_onnx
from tests.bundles import DIGITS

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of torch's exporter


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Calibrated(CNN(2), temperature=1.7).eval()


@pytest.fixture(scope="module")
def exported(network):
    return to_onnx(network)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_onnx_runtime_equals_torch_for_any_number_of_images(network, exported, count):
    images = tensor(DIGITS[:count])
    session = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = network(images).numpy()
    [found] = session.run(["prob"], {"image": images.numpy()})
    assert np.abs(found - expected).max() < TOLERANCE
    assert found.sum(axis=1) == pytest.approx(1)


def test_the_same_weights_give_the_same_bytes(network, exported):
    assert to_onnx(network) == exported


def test_the_file_does_not_name_the_machine(exported):
    model = onnx.load_from_string(exported)
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b".py" not in exported


def test_the_golden_images_have_different_encodings_and_canonical_pixels(network):
    splits = np.full(10, Split.VALIDATION, np.uint8)
    prepared = Prepared(DIGITS, np.arange(10, dtype=np.uint8), tuple("0123456789"), splits, np.arange(10))
    assert len(golden(prepared, network, 3).encoded) == 3
    found = golden(prepared, network, 99)  # there are no more classes than 10
    assert len(found.encoded) == 10
    pictures = [Image.open(io.BytesIO(data)) for data in found.encoded]
    assert {picture.mode for picture in pictures} == {"L", "LA"}
    assert any(picture.getexif() for picture in pictures)
    for picture, pixels, digit in zip(pictures, found.pixels, DIGITS, strict=True):
        assert np.array_equal(canonical(picture), pixels)
        assert np.abs(pixels.astype(int) - digit).mean() < 8  # the digit it was made of


def test_each_histogram_of_the_reference_sums_to_1(network):
    with torch.inference_mode():
        found = reference(DIGITS, network(tensor(DIGITS)).numpy())
    assert {name: len(shares) for name, shares in found.items()} == {"digits": 10, "confidence": 20, "ink": 32}
    for shares in found.values():
        assert shares.sum() == pytest.approx(1)
