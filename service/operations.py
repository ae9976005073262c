"""GET /livez, /readyz, /version, /metrics: is it alive, may it be asked, who is it, and how is it doing."""

import asyncio
import importlib.metadata
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from model import bundle
from model.bundle import BundleError
from service import metrics, problems
from service.problems import Problem
from service.state import State, state

router = APIRouter(tags=["operations"])
_THREAD = ThreadPoolExecutor(1, "metrics")  # its own: whatever else hangs, this answers


class Service(BaseModel):
    """The code around the model."""

    version: str
    revision: str | None = Field(description="the git revision the image was built of; null outside an image")


class Version(BaseModel):
    """Of what the running service is made."""

    name: str
    version: str = Field(description="the first 12 digits of the model's SHA-256")
    created: str
    canonical_version: str
    sha256: dict[str, str] = Field(description="of the model, the data and the parameters it was made of")
    git_revision: str | None
    git_dirty: bool | None
    run: str = Field(description="the run that made it, also the tag neocog.run in MLflow")
    mlflow_run_id: str | None
    metrics: dict[str, float]
    service: Service


def check_ready(serving: State) -> str:
    """The version of the model that is ready. Raises `Problem` (503) while none is."""
    if serving.admission.draining:
        raise Problem(503, "draining", "the service ends; ask another", retry_after=1)
    try:
        serving.models.current.prove_again()
    except BundleError as error:
        raise Problem(503, "canary-failed", str(error)) from error
    return serving.models.current.manifest.version


@router.get("/livez", response_class=Response, responses={200: {"content": {"text/plain": {"example": "ok\n"}}}})
async def livez() -> Response:
    """200 as long as the process answers at all."""
    return Response("ok\n", media_type="text/plain")


@router.get(
    "/readyz",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"example": "ready: model 088b865d6ae7\n"}}}, **problems.responses(503)},
)
async def readyz(request: Request) -> Response:
    """200 where the model, asked about a known picture, still says what it must, and the service is not about to end.

    The service doesn't listen before its model has proved itself. A full journal is a second line: the service answers
    on without it.
    """
    serving = state(request)
    said = f"ready: model {check_ready(serving)}\n"
    if serving.journal is not None and serving.journal.full:
        said += "journal: full; predictions are answered and not kept\n"
    return Response(said, media_type="text/plain")


@router.get("/version")
async def version(request: Request) -> Version:
    """Which model answers, and the hashes of all it was made of."""
    serving = state(request)
    manifest: bundle.Manifest = serving.models.current.manifest
    service = Service(version=importlib.metadata.version("neocog"), revision=serving.settings.revision or None)
    return Version.model_validate(manifest.model_dump() | {"service": service})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def prometheus() -> Response:
    """Prometheus's text format, of all workers together."""
    text = await asyncio.get_running_loop().run_in_executor(_THREAD, metrics.exposition)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
