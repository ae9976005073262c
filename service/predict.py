"""POST /predict: a picture in, a digit out. POST /predict/batch: many.

The hot path, from the first byte to the last, and what it leaves out (`service.front` calls `predict` directly):

1. `upload` gathers the body; it was in memory already, nothing is copied to a file.
2. `model.canonical.images` reads the image's header, and refuses what is too large before it decodes a pixel. A small image is
   decoded here, in the event loop: a thread would cost three times the decoding. A large one goes to a thread.
3. `Reader` makes it canonical and infers it, together with all that waits at this moment.
4. The answer is serialised by orjson, straight from numpy; the journal gets a row, in memory.
"""

import asyncio
import base64
import contextlib
import io
import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter
from PIL import Image
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from model.canonical import Pixels, canonical
from model.canonical.images import BadImage, decode, identify, load, plain_png
from service import problems
from service.ids import new_id
from service.journal import TAG, Row
from service.problems import Problem, ProblemDetails
from service.reader import BATCH, Reading
from service.state import State, header, state
from service.upload import image_bytes, many_image_bytes, request_body

router = APIRouter(tags=["predict"])

INLINE_PIXELS: Final = 100_000  # up to here a picture is decoded in the event loop: about a millisecond
INLINE_BYTES: Final = 500_000
JSON: Final = "application/json"


class PredictionAnswer(BaseModel):
    """What the model says of one picture."""

    digit: int = Field(ge=0, le=9, examples=[7])
    confidence: float = Field(description="the probability of `digit`", examples=[0.91])
    probabilities: list[float] = Field(
        description="of the digits 0 to 9", min_length=10, max_length=10, examples=[[0.01] * 7 + [0.91, 0.01, 0.01]]
    )
    abstained: bool = Field(description="the model is too unsure: better ask a person", examples=[False])
    prediction_id: str = Field(description="for /feedback", examples=["019a1b2c3d4e7f60a1b2c3d4e5f60718"])
    model_version: str = Field(examples=["088b865d6ae7"])
    seen: str | None = Field(None, description="with ?explain=true: the 28x28 the model saw, as a PNG data URL")


class Answer(Response):
    """JSON that is serialised already, with its two headers; Starlette's general way takes four times as long."""

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


@router.post(
    "/predict",
    response_model=PredictionAnswer,
    openapi_extra=request_body("image", many=False) | _PARAMETERS,
    responses=problems.responses(400, 401, 409, 413, 415, 422, 429, 503),
)
async def predict(request: Request) -> Response:
    """The digit in an image: as the multipart field `image`, as the raw body, or as base64 in JSON."""
    serving = state(request)
    explain, tag = _options(request)
    data = await image_bytes(request, serving.settings.max_body_bytes)
    answer = _answer(serving, await _read(serving, data), tag, explain=explain)
    return Answer(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY))


@router.post(
    "/predict/batch",
    response_model=BatchAnswer,
    openapi_extra=request_body("images", many=True) | _PARAMETERS,
    responses=problems.responses(400, 401, 409, 413, 415, 422, 429, 503),
)
async def predict_batch(request: Request) -> Response:
    """The digits in many images: as multipart fields `image`, or as base64 in JSON. A bad one spoils no other."""
    serving = state(request)
    explain, tag = _options(request)
    images = await many_image_bytes(request, serving.settings.max_body_bytes, serving.settings.max_batch)
    _within_budget(images, serving.settings.max_pixels)
    entries = []
    for reading in await _read_many(serving, images):
        if isinstance(reading, tuple):
            entries.append(_answer(serving, reading, tag, explain=explain))
        elif isinstance(reading, Exception):
            entries.append(problems.details(problems.of(reading)).model_dump())
        else:
            raise reading
    return Answer(orjson.dumps({"predictions": entries}, option=orjson.OPT_SERIALIZE_NUMPY))


def _within_budget(images: Sequence[bytes], max_pixels: int) -> None:
    """All pictures of a request together may have as many pixels as one: a small file may hold very many."""
    pixels = 0
    for data in images:
        with contextlib.suppress(BadImage):  # will be said of it alone
            picture = identify(data, max_pixels=max_pixels)
            pixels += picture.width * picture.height
    if pixels > max_pixels:
        raise Problem(413, "too-many-pixels", f"{pixels:,} pixels in all; at most {max_pixels:,} are decoded")


def _options(request: Request) -> tuple[bool, str | None]:
    """?explain and the header X-Tag. Raises `Problem`."""
    explain = False
    if request.scope["query_string"] and (said := request.query_params.get("explain")) is not None:
        if said.lower() not in ("true", "false", "1", "0"):
            raise Problem(400, "bad-parameter", f"explain: {said[:40]!r}, allowed are true and false")
        explain = said.lower() in ("true", "1")
    tag = header(request, b"x-tag")
    if tag is not None and len(tag) > TAG:
        raise Problem(400, "bad-parameter", f"X-Tag: {len(tag)} characters, allowed are {TAG}")
    return explain, tag


async def _read_many(serving: State, images: Sequence[bytes]) -> list[Reading | BaseException]:
    """A reader's batch at a time, so that others get their turn in between."""
    found: list[Reading | BaseException] = []
    for at in range(0, len(images), BATCH):
        some = (_read(serving, data) for data in images[at : at + BATCH])
        found += await asyncio.gather(*some, return_exceptions=True)
    return found


async def _read(serving: State, data: bytes) -> Reading:
    """Raises `BadImage`."""
    most = serving.settings.max_pixels
    if len(data) <= INLINE_BYTES:
        begun = time.perf_counter()
        picture = plain_png(data, max_pixels=min(most, INLINE_PIXELS)) or identify(data, max_pixels=most)
        if picture.width * picture.height <= INLINE_PIXELS:
            load(picture)
            return await serving.reader.read(picture, time.perf_counter() - begun)
    loop = asyncio.get_running_loop()
    return await serving.reader.infer(await loop.run_in_executor(serving.pool, _canonical, data, most))


def _canonical(data: bytes, max_pixels: int) -> Pixels:
    return canonical(decode(data, max_pixels=max_pixels))


def _answer(serving: State, reading: Reading, tag: str | None, *, explain: bool) -> dict[str, object]:
    """What the client is told."""
    (digit, confidence, probabilities, abstained), pixels, version = reading
    identity = new_id()
    journalled(serving, reading, identity, tag)
    answer: dict[str, object] = {
        "digit": digit,
        "confidence": confidence,
        "probabilities": probabilities,
        "abstained": abstained,
        "prediction_id": identity,
        "model_version": version,
    }
    if explain:
        answer["seen"] = _data_url(pixels)
    return answer


def journalled(serving: State, reading: Reading, identity: str, tag: str | None) -> None:
    """Tells the journal of a prediction."""
    (digit, confidence, probabilities, abstained), pixels, version = reading
    if serving.journal is not None:
        row = Row(
            identity, time.time(), version, digit, float(confidence), probabilities.tobytes(), abstained,
            pixels.tobytes(), tag,
        )  # fmt: skip
        serving.journal.put(row)


def _data_url(pixels: Pixels) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
