"""The Open Inference Protocol, asked by Triton's own client and by hand."""

import numpy as np
import orjson
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
        (body(data=[[1] * 700, [1] * 84]), 400, "bad-tensor"),
        (body(data=[{}] * 784), 400, "bad-tensor"),
        (body(data=[None] * 784), 400, "bad-tensor"),
        (body(data=[1e308] * 784), 400, "bad-tensor"),
        (body(data=["nan"] * 784), 400, "bad-tensor"),
        (body(data=["x" * 100_000] * 2), 400, "bad-tensor"),
        (body(shape=[0, 1, 28, 28]), 400, "bad-tensor"),
        (body(shape=[-1, 1, 28, 28]), 400, "bad-tensor"),
        (body(shape=[2**63, 2**63, 2**63, 2**63]), 400, "bad-tensor"),
        (body(shape=[2**63, 1, 28, 28]), 413, "too-many-images"),
        (body(shape=[1e308, 1, 28, 28]), 400, "bad-parameter"),
        (body(shape=["1", 1, 28, 28]), 400, "bad-parameter"),
        (body(shape=[True, 1, 28, 28]), 400, "bad-parameter"),
        (body(shape=[1] * 65), 400, "bad-parameter"),
        (body() | {"outputs": [{"name": "prob"}] * 2}, 400, "bad-parameter"),
        (body() | {"inputs": body()["inputs"] * 2}, 400, "bad-parameter"),
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


@pytest.mark.parametrize(
    "sent", [b'{"inputs": [{"name": NaN}]}', b"{", b"", b'{"id": "\\ud800"}', b"[" * 4000, b"\xff"]
)
def test_what_is_not_json_is_refused(client, sent):
    response = client.post(PATH, content=sent)
    assert (response.status_code, response.json()["reason"]) == (400, "malformed-json")


def test_data_may_be_nested_as_the_shape_says(client):
    flat, nested = (
        client.post(PATH, json=body(data=[data])) for data in (DIGITS[3].ravel().tolist(), DIGITS[3:4].tolist())
    )
    assert flat.status_code == nested.status_code == 200, flat.text
    assert flat.json()["outputs"] == nested.json()["outputs"]


def binary(client, size, tail, kind="FP32"):
    """The answer to a tensor of one image whose bytes `tail` stand behind the head."""
    image = {"name": "image", "datatype": kind, "shape": [1, 1, 28, 28], "parameters": {"binary_data_size": size}}
    head = orjson.dumps({"inputs": [image]})
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return client.post(PATH, content=head + tail, headers=headers)


@pytest.mark.parametrize(
    ("size", "more"),
    [(0, 0), (3135, -1), (3135, 0), (3137, 1), (3136, -1), (3136, 1), (-1, 0), (3136.0, 0), ("3136", 0), (True, 0),
     (float(2**70), 0), ([3136], 0), ({}, 0)],
)  # fmt: skip
def test_a_tensor_has_the_bytes_that_its_shape_says(client, size, more):
    response = binary(client, size, bytes(3136 + more))
    assert (response.status_code, response.json()["reason"]) == (400, "bad-tensor")
    said = f"binary_data_size must be 3,136, and as many bytes must follow; {3136 + more:,} do"
    assert response.json()["detail"] == said


@pytest.mark.parametrize(
    "pattern", [0x7FC00000, 0x7F800001, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0xBF800000, 0x3F800001]
)
def test_a_float_that_is_no_level_is_refused(client, pattern):
    """NaN, a signalling NaN, the infinities, the largest float, -1, and the first float above 1."""
    values = np.zeros(784, "<u4")
    assert binary(client, 3136, values.tobytes()).status_code == 200
    values[400] = pattern
    response = binary(client, 3136, values.tobytes())
    assert (response.status_code, response.json()["detail"]) == (400, "the values of 'image' must be 0 to 1")


def test_as_many_images_as_are_allowed_may_be_json(serve):
    service = serve(counted=False)
    values = (np.tile(DIGITS, (26, 1, 1))[:256] / 255).round(9).reshape(256, 28, 28)
    image = {"name": "image", "datatype": "FP32", "shape": [256, 1, 28, 28], "data": values[:, None].tolist()}
    answer = service.http.post(PATH, json={"inputs": [image]})
    assert answer.status_code == 200, answer.text
    found = np.reshape(answer.json()["outputs"][0]["data"], (256, 10)).argmax(1)
    assert found.tolist() == [place % 10 for place in range(256)]
