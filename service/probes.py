"""GET /livez, /readyz and /version: is it alive, may it be asked, and who is it."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from model import bundle
from service.state import state

router = APIRouter(tags=["operations"])


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


@router.get("/livez")
async def livez() -> Response:
    """200 as long as the process answers at all."""
    return Response("ok\n", media_type="text/plain")


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """200 once the model is loaded and has proved itself; the service doesn't listen before."""
    return Response(f"ready: model {state(request).predictor.manifest.version}\n", media_type="text/plain")


@router.get("/version")
async def version(request: Request) -> Version:
    """Which model answers, and the hashes of all it was made of."""
    manifest: bundle.Manifest = state(request).predictor.manifest
    return Version.model_validate(manifest.model_dump(include=set(Version.model_fields)))
