"""A subset of the Open Inference Protocol, version 2, over HTTP, which the clients of KServe and Triton speak.

One model, `digits`: input `image`, n x 1 x 28 x 28 as `canonical` makes it, FP32 in 0..1 or UINT8 in 0..255; output
`prob`, FP32, n x the number of labels. Tensors come as JSON, or by the binary extension: a JSON head of
`Inference-Header-Content-Length` bytes, then the bytes of the tensors. Source: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol
"""

import asyncio
import re
from typing import Annotated, Any, Final

import numpy as np
import orjson
from fastapi import APIRouter
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from journal.ids import new_id
from journal.rows import TAG
from model.canonical import SIDE, Pixels
from service.edge import problems
from service.edge.calls import Call
from service.edge.problems import Problem
from service.edge.routing import direct, open_to_all
from service.edge.upload import parsed
from service.readiness import check_ready
from service.record import record
from service.state import State, state

router = APIRouter(prefix="/v2", tags=["open inference protocol v2"])

NAME: Final = "digits"
HEAD: Final = b"inference-header-content-length"
PLATFORM: Final = "onnxruntime_onnx"
JSON: Final = "application/json"
_TYPES: Final[dict[str, np.dtype[Any]]] = {"FP32": np.dtype("<f4"), "UINT8": np.dtype("u1")}
_VALUES: Final = SIDE * SIDE  # of an image
_NESTED: Final = 2 + SIDE  # lists that one image may take beside its values, written as [[[…], …]]


class Tensor(BaseModel):
    """The name, type and shape of a tensor."""

    name: str
    datatype: str
    shape: list[StrictInt] = Field(max_length=64, fail_fast=True)


class InputTensor(Tensor):
    """A tensor of a request. Its values are in `data`, row by row, or in bytes after the head."""

    data: list[Any] | None = Field(None, examples=[[0.0] * 4])
    parameters: dict[str, Any] = {}


class OutputTensor(Tensor):
    """A tensor of an answer."""

    data: list[float] | None = None
    parameters: dict[str, Any] | None = None


class RequestedOutput(BaseModel):
    """An output that is asked for, and in which form."""

    name: str
    parameters: dict[str, Any] = {}


class InferenceRequest(BaseModel):
    """The head of a request."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 28, 28], "data": [0] * 784}]}
        }
    )

    id: Annotated[str, Field(max_length=TAG, pattern=r"^[^\x00]*$")] | None = None  # kept as the prediction's tag
    parameters: dict[str, Any] = {}
    # `fail_fast`: pydantic makes an error of 1,500 bytes for each wrong item, else, and a client can send 200,000.
    inputs: list[InputTensor] = Field(min_length=1, max_length=1, fail_fast=True)
    outputs: Annotated[list[RequestedOutput], Field(max_length=1, fail_fast=True)] | None = None


class InferenceAnswer(BaseModel):
    """The head of an answer."""

    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


class ServerMetadata(BaseModel):
    """GET /v2."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(BaseModel):
    """GET /v2/models/digits."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


@router.get("/health/live")
@open_to_all
async def live() -> Response:
    """200 as long as the process answers."""
    return Response()


@router.get("/health/ready", responses=problems.responses(503))
@router.get(f"/models/{NAME}/ready", responses=problems.responses(503))
@open_to_all
async def ready(request: Request) -> Response:
    """200 where /readyz says so."""
    check_ready(state(request))
    return Response()


@router.get("")
@open_to_all
async def server(request: Request) -> ServerMetadata:
    """The server and what it can do."""
    return ServerMetadata(name="neocog", version=request.app.version, extensions=["binary_tensor_data"])


@router.get(f"/models/{NAME}")
@open_to_all
async def model(request: Request) -> ModelMetadata:
    """The model's inputs and outputs."""
    bundles = state(request).bundles
    return ModelMetadata(
        name=NAME,
        versions=[bundles.current.manifest.version],
        platform=PLATFORM,
        inputs=[Tensor(name="image", datatype="FP32", shape=[-1, 1, SIDE, SIDE])],
        outputs=[Tensor(name="prob", datatype="FP32", shape=[-1, len(bundles.labels.names)])],
    )


_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {JSON: {"schema": InferenceRequest.model_json_schema(ref_template="#/components/schemas/{model}")}},
    }
}


@direct(
    router,
    f"/models/{NAME}/infer",
    response_model=InferenceAnswer,
    response_model_exclude_none=True,
    openapi_extra=_BODY,
    responses=problems.responses(400, 401, 413, 429, 503),
)
async def infer(call: Call, serving: State) -> Response:
    """Probabilities of canonical images, as tensors."""
    head, tail = _split(call.body, call.header(HEAD))
    most = serving.settings.max_batch
    try:
        asked = InferenceRequest.model_validate(parsed(head, most * (_VALUES + _NESTED)))
    except ValidationError as error:
        raise problems.invalid(error) from None
    wanted = asked.outputs or [RequestedOutput(name="prob")]
    if [output.name for output in wanted] != ["prob"]:
        raise Problem("bad-tensor", "the only output is 'prob'")
    pixels = _pixels(asked.inputs[0], tail, most)
    readings = await asyncio.gather(*(serving.reader.infer(image) for image in pixels))
    for reading in readings:
        record(serving, reading, new_id(), asked.id, call.caller)
    prob = np.stack([reading.prediction.probabilities for reading in readings])

    binary = wanted[0].parameters.get("binary_data", asked.parameters.get("binary_data_output", False))
    output: dict[str, object] = {"name": "prob", "datatype": "FP32", "shape": list(prob.shape)}
    output |= {"parameters": {"binary_data_size": prob.nbytes}} if binary else {"data": prob.ravel()}
    answer = orjson.dumps(
        {"model_name": NAME, "model_version": readings[0].version, "id": asked.id or new_id(), "outputs": [output]},
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    if not binary:
        return Response(answer, media_type=JSON)
    headers = {"Inference-Header-Content-Length": str(len(answer))}
    return Response(answer + prob.astype("<f4").tobytes(), headers=headers, media_type="application/octet-stream")


def _split(sent: bytes, length: str | None) -> tuple[bytes, bytes]:
    """The JSON head, and the bytes of the tensors."""
    if length is None:
        return sent, b""
    if not re.fullmatch("[0-9]{1,12}", length) or int(length) > len(sent):
        raise Problem("bad-parameter", f"{HEAD.decode()}: {length[:20]!r}, the body has {len(sent):,} bytes")
    return sent[: int(length)], sent[int(length) :]


def _pixels(tensor: InputTensor, tail: bytes, most: int) -> Pixels:
    """n x 28 x 28 uint8 of a tensor. Raises `Problem`."""
    kind = _TYPES.get(tensor.datatype)
    if tensor.name != "image" or kind is None:
        raise Problem("bad-tensor", "the only input is 'image', of datatype FP32 or UINT8")
    if len(tensor.shape) != 4 or tensor.shape[1:] != [1, SIDE, SIDE] or tensor.shape[0] < 1:
        raise Problem("bad-tensor", f"shape {tensor.shape}, allowed is [n, 1, {SIDE}, {SIDE}]")
    count = tensor.shape[0]
    if count > most:
        raise Problem("too-many-images", f"{count:,} images; one request may hold {most:,}")
    values = _values(tensor, kind, tail, count * _VALUES)
    top = 1 if tensor.datatype == "FP32" else 255
    if not (values.min() >= 0 and values.max() <= top):  # NaN is neither
        raise Problem("bad-tensor", f"the values of 'image' must be 0 to {top}")
    pixels: Pixels = np.rint(values.astype(np.float64) * (255 // top)).astype(np.uint8).reshape(count, SIDE, SIDE)
    return pixels


def _values(tensor: InputTensor, kind: np.dtype[Any], tail: bytes, count: int) -> NDArray[np.number]:
    """The `count` values of a tensor, from JSON or from the bytes behind the head. Raises `Problem`."""
    size = tensor.parameters.get("binary_data_size")
    if size is not None:
        needed = count * kind.itemsize
        if type(size) is not int or size != needed or len(tail) != needed:
            told = f"binary_data_size must be {needed:,}, and as many bytes must follow; {len(tail):,} do"
            raise Problem("bad-tensor", told)
        return np.frombuffer(tail, kind)
    try:
        values = np.asarray(tensor.data, np.float64).ravel()
    except (ValueError, TypeError, OverflowError):
        raise Problem("bad-tensor", "the data of 'image' must be numbers, or equally long lists of them") from None
    if values.size != count:
        raise Problem("bad-tensor", f"{values.size:,} values, the shape says {count:,}")
    return values
