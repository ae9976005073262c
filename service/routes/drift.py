"""GET /drift: whether the served model's world has changed, as `pipelines.watch` last found."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from service.edge.routing import open_to_all
from service.state import state

router = APIRouter(tags=["operations"])


class Estimate(BaseModel):
    """A share with an interval that holds at all times together."""

    mean: float
    low: float
    high: float
    count: int


class Summary(BaseModel):
    """What is known of the served model in production. Only `status` is always there."""

    model_config = ConfigDict(extra="allow")

    status: str = Field(description="unknown, learning, steady, changed, risk or harm")
    model_version: str | None = None
    predictions: int | None = None
    labels: int | None = None
    reference_error: float | None = None
    error: Estimate | None = Field(None, description="from labels")
    estimated_accuracy: Estimate | None = Field(None, description="without labels, from the confidence")
    evidence: dict[str, float] = Field({}, description="of a change, by statistic: log10 of the e-value")
    updated: float | None = Field(None, description="seconds since 1970")


@router.get("/drift", response_model=Summary)
@open_to_all
async def drift(request: Request) -> Response:
    """The summary that was read last, at most 10 seconds before somebody last asked."""
    return Response(
        state(request).drift.summary(), media_type="application/json", headers={"Cache-Control": "no-cache"}
    )
