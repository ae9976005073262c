"""POST /predict: a picture in, a digit out. POST /predict/batch: many.

The hot path, from the first byte to the last. `service.edge.front` calls `predict` directly.

1. `edge.upload` finds the picture in the body. The body was in memory already; nothing is copied to a file.
2. A small plain PNG is decoded here, in the event loop. That takes 20 microseconds, and no such picture can take much
   longer than `INLINE_PIXELS` says. A decoder (`service.decoding`) makes every other picture canonical.
3. `Reader` makes small PNGs canonical and infers, together with all pictures that wait at this moment.
4. orjson serialises the answer, straight from numpy. The journal gets a row, in memory.
"""

import asyncio
import time
from typing import Annotated, Any, Final

import numpy as np
import orjson
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from journal.ids import new_id
from journal.rows import TAG
from model.canonical.images import plain_png
from service.edge import problems
from service.edge.calls import Call
from service.edge.problems import Problem, ProblemDetails
from service.edge.routing import direct
from service.edge.upload import image_bytes, many_image_bytes, request_body
from service.pictures import data_url
from service.reader import Reading
from service.record import record
from service.state import State

router = APIRouter(tags=["predict"])

# A plain PNG of up to so many pixels is read in the event loop. The worst, 64x64 with a dot at every other pixel, takes
# 3 ms; a digit of 28x28 takes 0.1. Checkerboards of 160x160 would take 4 ms, of 316x316 14.
INLINE_PIXELS: Final = 2**14
INLINE_BYTES: Final = 100_000  # the pixels, uncompressed


class PredictionAnswer(BaseModel):
    """What the model says of one picture. `service.openapi` gives `label` its name and values."""

    label: Any
    confidence: float = Field(description="the probability of the answer", examples=[0.91])
    probabilities: list[float]
    abstained: bool = Field(description="the model is too unsure: better ask a person", examples=[False])
    prediction_id: str = Field(description="for /feedback", examples=["019a1b2c3d4e7f60a1b2c3d4e5f60718"])
    model_version: str = Field(examples=["088b865d6ae7"])
    seen: str | None = Field(None, description="with ?explain=true: the 28x28 the model saw, as a PNG data URL")


class Answer(Response):
    """JSON that is serialised already, with its two headers. Starlette's general way takes four times as long."""

    def __init__(self, body: bytes) -> None:
        self.body, self.status_code, self.background = body, 200, None
        self.raw_headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]


class BatchAnswer(BaseModel):
    """One entry for each picture, in the order they were sent: what the model says of it, or why it could not."""

    predictions: list[Annotated[PredictionAnswer | ProblemDetails, Field()]]


_PARAMETERS: Final[dict[str, Any]] = {
    "parameters": [
        {
            "name": "explain", "in": "query", "schema": {"type": "boolean", "default": False},
            "description": "also return the 28x28 the model saw",
        },
        {
            "name": "X-Tag", "in": "header", "schema": {"type": "string", "maxLength": TAG},
            "description": "kept with the prediction in the journal, to find it again",
        },
        {
            "name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255},
            "description": "the same key gets the same answer, without another prediction",
        },
    ]
}  # fmt: skip


@direct(
    router,
    "/predict",
    response_model=PredictionAnswer,
    openapi_extra=request_body("image", many=False) | _PARAMETERS,
    responses=problems.responses(400, 401, 409, 413, 415, 422, 429, 503),
)
async def predict(call: Call, serving: State) -> Response:
    """The digit in an image: as the multipart field `image`, as the raw body, or as base64 in JSON."""
    explain, tag = _options(call)
    reading = await _read(serving, call.caller, image_bytes(call))
    answer = _answer(serving, reading, tag, call.caller, explain=explain)
    return Answer(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))


@direct(
    router,
    "/predict/batch",
    response_model=BatchAnswer,
    openapi_extra=request_body("images", many=True) | _PARAMETERS,
    responses=problems.responses(400, 401, 409, 413, 415, 422, 429, 503),
)
async def predict_batch(call: Call, serving: State) -> Response:
    """The digits in many images: as multipart fields `image`, or as base64 in JSON. A bad one spoils no other."""
    explain, tag = _options(call)
    images = many_image_bytes(call, serving.settings.max_batch)
    outcomes = await serving.decoders.canonical(call.caller, images)
    readings = iter(
        await asyncio.gather(*(serving.reader.infer(pixels) for pixels in outcomes if isinstance(pixels, np.ndarray)))
    )
    entries = [
        problems.details(problems.of(outcome)).model_dump()
        if isinstance(outcome, Exception)
        else _answer(serving, next(readings), tag, call.caller, explain=explain)
        for outcome in outcomes
    ]
    return Answer(orjson.dumps({"predictions": entries}, option=orjson.OPT_SERIALIZE_NUMPY))


def _options(call: Call) -> tuple[bool, str | None]:
    """?explain and the header X-Tag. Raises `Problem`."""
    explain = call.parameter("explain") or "false"
    if explain.lower() not in ("true", "false", "1", "0"):
        raise Problem("bad-parameter", f"explain: {explain[:40]!r}, allowed are true and false")
    tag = call.header(b"x-tag")
    if tag is not None and len(tag) > TAG:
        raise Problem("bad-parameter", f"X-Tag: {len(tag)} characters, at most {TAG} are allowed")
    return explain.lower() in ("true", "1"), tag


async def _read(serving: State, caller: str, data: bytes) -> Reading:
    """Raises `BadImage` or `Problem`."""
    if len(data) <= INLINE_BYTES:
        begun = time.perf_counter()
        picture = plain_png(data, max_pixels=min(serving.settings.max_pixels, INLINE_PIXELS))
        if picture is not None:
            return await serving.reader.read(picture, time.perf_counter() - begun)
    (pixels,) = await serving.decoders.canonical(caller, [data])
    if isinstance(pixels, Exception):
        raise pixels
    return await serving.reader.infer(pixels)


def _answer(serving: State, reading: Reading, tag: str | None, caller: str, *, explain: bool) -> dict[str, object]:
    """The answer for one picture, which the journal gets, too."""
    (digit, confidence, probabilities, abstained), pixels, version = reading
    prediction_id = new_id()
    record(serving, reading, prediction_id, tag, caller)
    labels = serving.bundles.labels
    answer: dict[str, object] = {
        labels.field: labels.values[digit],
        "confidence": confidence,
        "probabilities": probabilities,
        "abstained": abstained,
        "prediction_id": prediction_id,
        "model_version": version,
    }
    if explain:
        answer["seen"] = data_url(pixels)
    return answer
