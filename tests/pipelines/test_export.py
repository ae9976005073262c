"""The exported model is the trained network."""

import io

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from PIL import Image

from model.canonical import canonical
from model.drift import Reference
from model.networks.cnn import CNN
from model.predictor import TOLERANCE
from model.statistics import measure
from model.training import tensor
from pipelines.artefacts import Prepared, Split
from pipelines.export import Served, golden, principal_components, reference, to_onnx
from tests.bundles import DIGITS

PICTURES = np.stack([np.roll(digit, shift, axis=1) for shift in range(-3, 4) for digit in DIGITS])  # 70 x 28 x 28
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of torch's exporter


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    cnn = CNN(2).eval()
    return Served(cnn, 1.7, principal_components(cnn, PICTURES)).eval()


@pytest.fixture(scope="module")
def exported(network):
    return to_onnx(network)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_onnx_runtime_equals_torch_for_any_number_of_images(network, exported, count):
    images = tensor(DIGITS[:count])
    session = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = [output.numpy() for output in network(images)]
    prob, features = session.run(["prob", "features"], {"image": images.numpy()})
    assert np.abs(prob - expected[0]).max() < TOLERANCE
    assert prob.sum(axis=1) == pytest.approx(1)
    assert np.abs(features - expected[1]).max() < TOLERANCE


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


def test_the_features_leave_the_probabilities_as_they_are(network, exported):
    """To the bit, and also where the features are not asked for."""
    other = Served(network.network, 1.7, torch.nn.Linear(network.components.in_features, 4)).eval()
    images = {"image": tensor(DIGITS).numpy()}
    sessions = [ort.InferenceSession(model, providers=["CPUExecutionProvider"]) for model in (exported, to_onnx(other))]
    answers = [session.run(names, images)[0] for session in sessions for names in (["prob"], ["prob", "features"])]
    assert all(np.array_equal(answer, answers[0]) for answer in answers)
    with torch.inference_mode():
        logits = network.network(tensor(DIGITS))
    assert answers[0] == pytest.approx(torch.softmax(logits / 1.7, dim=1).numpy(), abs=TOLERANCE)


def test_the_features_are_white_and_their_signs_are_fixed(network):
    with torch.inference_mode():
        features = network(tensor(PICTURES))[1].numpy()
        maps = network.network.features(tensor(PICTURES)).flatten(1).double().numpy()
    assert features.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-4)
    assert np.cov(features.T, ddof=0) == pytest.approx(np.eye(4), abs=1e-3)
    strongest = np.linalg.svd(maps - maps.mean(axis=0), full_matrices=False)[0][:, :4]
    assert np.abs((strongest * features).sum(axis=0)) == pytest.approx(np.full(4, len(PICTURES) ** 0.5), rel=1e-3)
    weights = network.components.weight.detach().numpy()
    assert (weights[np.arange(4), np.abs(weights).argmax(axis=1)] > 0).all()


def test_images_that_are_all_the_same_have_finite_features():
    layer = principal_components(CNN(2).eval(), DIGITS[[3, 3, 3, 3, 3]])
    assert torch.isfinite(layer.weight).all()
    assert torch.isfinite(layer.bias).all()


def test_the_reference_is_what_the_exported_model_answers(exported):
    labels = np.resize(np.arange(10), len(PICTURES)).astype(np.uint8)
    found = reference(exported, PICTURES, labels)
    session = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
    prob, features = session.run(["prob", "features"], {"image": tensor(PICTURES).numpy()})
    assert found.error == (prob.argmax(axis=1) != labels).mean()
    expected = Reference.of(measure(prob, PICTURES, features), prob.argmax(axis=1) == labels)
    assert found.dumps() == expected.dumps()
    assert 0 < found.atc_threshold < 1
