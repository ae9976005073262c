"""POST /predict: a picture in, a digit out."""

import base64
import io
import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Request
from PIL import Image
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from model.canonical import Pixels, canonical
from model.images import decode
from model.predictor import Prediction, Predictor
from service.problems import MEDIA_TYPE, ProblemDetails
from service.state import state
from service.upload import REQUEST_BODY, image_bytes

router = APIRouter(tags=["predict"])

_REFUSED = {"model": ProblemDetails, "content": {MEDIA_TYPE: {}}}


class PredictionAnswer(BaseModel):
    """What the model says of one picture."""

    digit: int = Field(ge=0, le=9, examples=[7])
    confidence: float = Field(description="the probability of `digit`", examples=[0.998])
    probabilities: list[float] = Field(description="of the digits 0 to 9", min_length=10, max_length=10)
    abstained: bool = Field(description="the model is too unsure: better ask a person")
    prediction_id: str = Field(examples=["0b5ad4b1f2f94a52a5c8c1b0f3f3a6a1"])
    model_version: str = Field(examples=["088b865d6ae7"])
    seen: str | None = Field(None, description="with ?explain=true: the 28x28 the model saw, as a PNG data URL")


@router.post(
    "/predict",
    response_model_exclude_none=True,
    openapi_extra=REQUEST_BODY,
    responses={
        400: {"description": "malformed", **_REFUSED},
        413: {"description": "too large", **_REFUSED},
        415: {"description": "not an image", **_REFUSED},
        422: {"description": "no digit in it", **_REFUSED},
    },
)
async def predict(
    request: Request,
    explain: Annotated[bool, Query(description="also return the 28x28 the model saw")] = False,  # noqa: FBT002
) -> PredictionAnswer:
    """The digit in an image: as the multipart field `image`, as the raw body, or as base64 in JSON."""
    serving = state(request)
    data = await image_bytes(request, serving.settings.max_body_bytes)
    pixels, prediction = await run_in_threadpool(_read, data, serving.settings.max_pixels, serving.predictor)
    return PredictionAnswer(
        digit=prediction.digit,
        confidence=prediction.confidence,
        probabilities=list(prediction.probabilities),
        abstained=prediction.abstained,
        prediction_id=uuid.uuid4().hex,
        model_version=serving.predictor.manifest.version,
        seen=_data_url(pixels) if explain else None,
    )


def _read(data: bytes, max_pixels: int, predictor: Predictor) -> tuple[Pixels, Prediction]:
    pixels = canonical(decode(data, max_pixels=max_pixels))
    return pixels, predictor.predict(pixels[None])[0]


def _data_url(pixels: Pixels) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
