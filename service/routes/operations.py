"""GET /livez, /readyz, /version, /metrics: for probes, people and Prometheus."""

import asyncio
import importlib.metadata
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from model import bundle
from service import metrics
from service.edge import problems
from service.edge.routing import open_to_all
from service.readiness import said_ready
from service.state import state

router = APIRouter(tags=["operations"])
_THREAD = ThreadPoolExecutor(1, "metrics")  # of its own, so that it answers whatever else hangs


class Service(BaseModel):
    """The code around the model."""

    version: str
    revision: str | None = Field(description="the git revision the image was built of; null outside an image")


class Version(BaseModel):
    """What the running service is made of."""

    name: str
    version: str = Field(description="the first 12 digits of the model's SHA-256")
    created: str
    labels: list[str] = Field(description="what the model tells apart, in the order of its probabilities")
    canonical_version: str
    sha256: dict[str, str] = Field(description="of the model, the data and the parameters it was made of")
    git_revision: str | None
    git_dirty: bool | None
    run: str = Field(description="the run that made it, also the tag neocog.run in MLflow")
    mlflow_run_id: str | None
    metrics: dict[str, float]
    service: Service


@router.get("/livez", response_class=Response, responses={200: {"content": {"text/plain": {"example": "ok\n"}}}})
@open_to_all
async def livez() -> Response:
    """200 as long as the process answers."""
    return Response("ok\n", media_type="text/plain")


@router.get(
    "/readyz",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"example": "ready: model 088b865d6ae7\n"}}}, **problems.responses(503)},
)
@open_to_all
async def readyz(request: Request) -> Response:
    """200 where the model still reads a golden picture as it must, and the service is not about to end.

    The service does not listen before its model has proved itself. A full journal adds a second line: the service
    still answers.
    """
    return Response(said_ready(state(request)), media_type="text/plain")


@router.get("/version")
@open_to_all
async def version(request: Request) -> Version:
    """The model that answers, and the hashes of everything it was made of."""
    serving = state(request)
    manifest: bundle.Manifest = serving.bundles.current.manifest
    service = Service(version=importlib.metadata.version("neocog"), revision=serving.settings.revision or None)
    return Version.model_validate(manifest.model_dump() | {"service": service})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
@open_to_all
async def prometheus() -> Response:
    """The metrics of all workers together, in Prometheus's text format."""
    text = await asyncio.get_running_loop().run_in_executor(_THREAD, metrics.exposition)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
