"""What the routes share: made when the service starts, gone when it stops."""

from dataclasses import dataclass

from starlette.requests import Request

from journal.writer import Journal
from service.bundles import Bundles
from service.callers import Callers
from service.decoding.pool import Decoders
from service.drift import Drift
from service.edge.admission import Admission
from service.labelling import Labelling
from service.reader import Reader
from service.settings import Settings


@dataclass(frozen=True)
class State:
    """The settings in force, the verified bundle, and everything that lives as long as the service."""

    settings: Settings
    admission: Admission
    bundles: Bundles
    reader: Reader
    journal: Journal | None
    callers: Callers
    labelling: Labelling
    drift: Drift
    decoders: Decoders  # for pictures that would hold up the event loop


def state(request: Request) -> State:
    """The state, for a route that FastAPI calls. The lifespan put it there."""
    serving: State = request.state.serving
    return serving
