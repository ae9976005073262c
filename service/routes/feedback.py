"""POST /feedback: what a person says that a prediction should have been."""

from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from journal.rows import ID, LabelRow
from service import metrics
from service.edge import problems
from service.edge.calls import Call
from service.edge.problems import Problem
from service.edge.routing import direct
from service.edge.upload import bounded, parsed
from service.record import keep_label
from service.state import State

router = APIRouter(tags=["predict"])

MAX_BYTES: Final = 4096  # of a body; a label takes about 100


class Feedback(BaseModel):
    """A label for an earlier prediction. The last one counts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prediction_id: Annotated[str, Field(pattern=f"^[0-9a-f]{{{ID}}}$", examples=["019a1b2c3d4e7f60a1b2c3d4e5f60718"])]
    label: int | str  # one of the served model's


_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": Feedback.model_json_schema()}}}
}


@direct(
    router,
    "/feedback",
    status_code=201,
    response_model=Feedback,
    openapi_extra=_BODY,
    responses=problems.responses(400, 401, 409, 413, 422, 429, 503),
)
async def feedback(call: Call, serving: State) -> Response:
    """Keeps a label. Once this is answered, the label is in the journal, whatever happens to the service."""
    try:
        sent = Feedback.model_validate(parsed(bounded(call.body, MAX_BYTES), 2))
        place = serving.bundles.labels.place(sent.label)
    except ValidationError as error:
        raise problems.invalid(error) from None
    except ValueError as error:
        raise Problem("bad-parameter", f"label: {error}") from None
    await keep_label(serving, LabelRow(sent.prediction_id, place, by=serving.callers.hashed(call.caller)))
    metrics.FEEDBACK.labels(str(sent.label)).inc()
    return Response(orjson.dumps(sent.model_dump()), 201, media_type="application/json")
