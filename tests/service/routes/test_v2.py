"""The Open Inference Protocol, asked by Triton's own client and by hand."""

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from model.predictor import Predictor
from tests.bundles import DIGITS

PATH = "/v2/models/digits/infer"
IMAGES = (DIGITS[:, None] / np.float32(255)).astype(np.float32)


@pytest.fixture(scope="module")
def client_of_triton(service):
    with triton.InferenceServerClient(service.address.removeprefix("http://")) as client:
        yield client


def test_health_and_metadata(client_of_triton):
    assert client_of_triton.is_server_live()
    assert client_of_triton.is_server_ready()
    assert client_of_triton.is_model_ready("digits")
    assert client_of_triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    metadata = client_of_triton.get_model_metadata("digits")
    assert metadata["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 28, 28]}]
    assert metadata["outputs"] == [{"name": "prob", "datatype": "FP32", "shape": [-1, 10]}]
    assert not client_of_triton.is_model_ready("letters")


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("kind", ["FP32", "UINT8"])
def test_inference_is_the_models_own(client_of_triton, bundle_folder, binary_in, binary_out, kind):
    tensor = triton.InferInput("image", [10, 1, 28, 28], kind)
    tensor.set_data_from_numpy(IMAGES if kind == "FP32" else DIGITS[:, None], binary_data=binary_in)
    wanted = triton.InferRequestedOutput("prob", binary_data=binary_out)
    answer = client_of_triton.infer("digits", [tensor], outputs=[wanted], request_id="mine")
    expected = Predictor.load(bundle_folder).probabilities(DIGITS)
    assert answer.as_numpy("prob") == pytest.approx(expected, abs=1e-6)
    assert answer.get_response()["id"] == "mine"


def test_a_mistake_is_said_as_triton_says_it(client_of_triton):
    tensor = triton.InferInput("image", [1, 28, 28], "FP32")
    tensor.set_data_from_numpy(IMAGES[0])
    with pytest.raises(InferenceServerException, match=r"shape \[1, 28, 28\], allowed is \[n, 1, 28, 28\]"):
        client_of_triton.infer("digits", [tensor])


def body(**changes):
    image = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 28, 28], "data": DIGITS[3].ravel().tolist()}
    return {"inputs": [image | changes]}


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [
        (body(name="x"), 400, "bad-tensor"),
        (body(datatype="FP64"), 400, "bad-tensor"),
        (body(data=None), 400, "bad-tensor"),
        (body(data=["a"] * 784), 400, "bad-tensor"),
        (body(data=[0] * 783), 400, "bad-tensor"),
        (body(data=[256] * 784), 400, "bad-tensor"),
        (body(data=[-1] * 784), 400, "bad-tensor"),
        (body(datatype="FP32", data=[1.1] * 784), 400, "bad-tensor"),
        (body(parameters={"binary_data_size": "many"}), 400, "bad-tensor"),
        (body(shape=[0, 1, 28, 28]), 400, "bad-tensor"),
        (body(shape=[10**12, 1, 28, 28]), 413, "too-many-images"),
        (body() | {"outputs": [{"name": "digit"}]}, 400, "bad-tensor"),
        (body(data=[10**310] * 784), 400, "malformed-json"),
        (body(parameters={"binary_data_size": 1e308}), 400, "bad-tensor"),
        (body() | {"id": "x" * 201}, 400, "bad-parameter"),
        (body() | {"id": "\0"}, 400, "bad-parameter"),
        ({"inputs": []}, 400, "bad-parameter"),
        ([], 400, "bad-parameter"),
    ],
)
def test_infer_refuses_with_a_reason(client, sent, status, reason):
    response = client.post(PATH, json=sent)
    assert (response.status_code, response.json()["reason"]) == (status, reason)
    assert response.json()["error"] == response.json()["detail"]


@pytest.mark.parametrize("length", ["x", "-1", "99999999", "²", "9" * 5000])
def test_a_head_longer_than_the_body_is_refused(client, length):
    response = client.post(PATH, content=b"{}", headers={"Inference-Header-Content-Length": length.encode("latin-1")})
    assert (response.status_code, response.json()["reason"]) == (400, "bad-parameter")


def test_what_is_refused_before_it_is_read_is_said_so_too(bundle_folder):
    from tests.service.conftest import in_process

    with in_process(bundle_folder, api_keys="0" * 64) as client:
        response = client.post(PATH, json=body())
        assert (response.status_code, response.json()["error"]) == (401, response.json()["detail"])


def test_data_that_is_not_a_number_is_refused(client):
    assert client.post(PATH, content=b'{"inputs": [{"name": NaN}]}').status_code == 400
