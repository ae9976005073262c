"""POST /feedback: what a person says that a prediction should have been."""

from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from service import problems
from service.journal import ID, JournalFull, JournalUnavailable
from service.problems import Problem
from service.state import state
from service.upload import body

router = APIRouter(tags=["predict"])


class Feedback(BaseModel):
    """A label for an earlier prediction. The last one counts."""

    model_config = ConfigDict(extra="forbid")

    prediction_id: Annotated[str, Field(pattern=f"^[0-9a-f]{{{ID}}}$", examples=["019a1b2c3d4e7f60a1b2c3d4e5f60718"])]
    label: Annotated[int, Field(ge=0, le=9, strict=True, examples=[7])]


_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": Feedback.model_json_schema()}}}
}


@router.post(
    "/feedback",
    status_code=201,
    response_model=Feedback,
    openapi_extra=_BODY,
    responses=problems.responses(400, 401, 409, 413, 422, 429, 503),
)
async def feedback(request: Request) -> Response:
    """Keeps a label. Once this is answered it is in the journal, and survives whatever happens to the service."""
    serving = state(request)
    try:
        said = Feedback.model_validate_json(await body(request, serving.settings.max_body_bytes))
    except ValidationError as error:
        raise problems.invalid(error) from None
    if serving.journal is None:
        raise Problem(503, "no-journal", "this service keeps no journal: NEOCOG_JOURNAL is off")
    try:
        await serving.journal.feedback(said.prediction_id, said.label)
    except JournalFull as error:
        raise Problem(503, "journal-full", f"the label was not kept: {error}", retry_after=60) from None
    except JournalUnavailable as error:
        raise Problem(503, "journal-unavailable", f"the label was not kept: {error}", retry_after=5) from None
    return Response(orjson.dumps(said.model_dump()), 201, media_type="application/json")
