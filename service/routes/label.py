"""/label: a page for people with the role, who say what each picture is; and the API behind it."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from journal.rows import ROLES, LabelRow
from service import metrics
from service.edge import problems
from service.edge.calls import Call
from service.edge.problems import Problem
from service.edge.routing import direct, open_to_all
from service.edge.upload import bounded, parsed
from service.labelling import Asked, golden_ids, item, summary
from service.record import asked_of_journal, keep_label, kept_journal
from service.routes.page import file
from service.state import State, state

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from journal.labelling import Stats

router = APIRouter(tags=["label"])

MAX_BYTES: Final = 4096  # of a body; a label takes about 400
MOST: Final = 50  # pictures of one answer


class Item(BaseModel):
    """A picture to label."""

    token: str = Field(description="goes back with the label")
    prediction_id: str
    image: str = Field(description="the 28x28 the model saw, as a PNG data URL")
    asked: str = Field(description="why this one: audit, uncertain, class or novel")
    blind: bool = Field(description="the prediction is not shown")
    prediction: Any = Field(description="what the model answered, or null")
    probabilities: list[float] | None


class Items(BaseModel):
    """What waits for the person who asks."""

    items: list[Item]


class Said(BaseModel):
    """What a person says of a picture. Null skips it: there is no digit, or it cannot be read."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: Annotated[str, Field(max_length=1024)]
    label: int | str | None


class Kept(BaseModel):
    """The label as it is in the journal."""

    prediction_id: str
    label: Any
    seconds: float | None = Field(description="that the person took, by the server's clock")


class Person(BaseModel):
    """What one person has done."""

    labels: int
    asked: dict[str, int] = Field(description="labels by why they were asked for")
    golden: int = Field(description="labels of the served model's golden pictures")
    right: int = Field(description="those of them that were right")


class Totals(BaseModel):
    """The work that is done, and that waits."""

    waiting: int = Field(description="predictions without a label among the newest 5,000")
    people: dict[str, Person] = Field(description="by the hash that stands for a person in the journal")


@router.get("/label", include_in_schema=False)
@open_to_all
async def page(request: Request) -> Response:
    """The page. It asks for the key itself."""
    state(request).labelling.check_open()
    return file("label.html")


@router.get("/label.js", include_in_schema=False)
@open_to_all
async def script() -> Response:
    return file("label.js")


@router.get("/label/next", response_model=Items, responses=problems.responses(400, 401, 403, 429, 503))
async def next_items(
    request: Request,
    n: Annotated[int, Query(ge=1, le=MOST)] = 10,
    audit: Annotated[bool, Query(description="only pictures drawn at random")] = False,  # noqa: FBT002 - a query has names
) -> Response:
    """The next pictures for the person whose key it is. Of ten, one is drawn at random from all predictions."""
    serving = state(request)
    labelling = serving.labelling
    by, place = labelling.person(dict(request.scope["headers"]))
    predictor, labels = serving.bundles.current, serving.bundles.labels

    def queue(connection: "Connection") -> list[Asked]:
        from journal.labelling import pool  # noqa: PLC0415 - with SQLAlchemy, which the service imports once it is ready

        found = pool(connection, predictor.manifest.version, len(labels.names), by)
        return labelling.queue(found, by, place, predictor, n, audit=audit)

    questions = await asked_of_journal(serving, queue)
    items = [item(question, labelling.ticket(question, by), labels) for question in questions]
    return _fresh({"items": items})


_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": Said.model_json_schema()}}}
}


@direct(
    router,
    "/label",
    status_code=201,
    response_model=Kept,
    openapi_extra=_BODY,
    responses=problems.responses(400, 401, 403, 409, 413, 422, 429, 503),
)
async def label(call: Call, serving: State) -> Response:
    """Keeps what a person said of a picture that `/label/next` gave. Another answer within the hour replaces it."""
    labelling, labels = serving.labelling, serving.bundles.labels
    by, _ = labelling.person(call.headers)
    try:
        said = Said.model_validate(parsed(bounded(call.body, MAX_BYTES), 2))
        place = None if said.label is None else labels.place(said.label)
    except ValidationError as error:
        raise problems.invalid(error) from None
    except ValueError as error:
        raise Problem("bad-parameter", f"label: {error}") from None
    ticket = labelling.opened(said.token, by, serving.bundles.current)
    kept_journal(serving)
    seconds = labelling.seconds(by, ticket.time)
    if place is None:
        labelling.skip(by, ticket.prediction_id)
        return _fresh({"prediction_id": ticket.prediction_id, "label": None, "seconds": None}, 201)
    await keep_label(serving, LabelRow(ticket.prediction_id, place, by, ROLES[1], ticket.asked, seconds, ticket.blind))
    metrics.LABELS.labels(ticket.asked).inc()
    return _fresh({"prediction_id": ticket.prediction_id, "label": said.label, "seconds": seconds}, 201)


@router.get("/label/stats", response_model=Totals, responses=problems.responses(401, 403, 429, 503))
async def totals(request: Request) -> Response:
    """Who labelled how much, how often they were right about golden pictures, and what waits."""
    serving = state(request)
    serving.labelling.person(dict(request.scope["headers"]))
    predictor = serving.bundles.current

    def question(connection: "Connection") -> "Stats":
        from journal.labelling import stats  # noqa: PLC0415 - as above

        return stats(connection, predictor.manifest.version, golden_ids(predictor))

    return _fresh(summary(await asked_of_journal(serving, question), predictor))


def _fresh(document: object, status: int = 200) -> Response:
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, {"Cache-Control": "no-store"}, "application/json")
