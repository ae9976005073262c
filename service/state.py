"""What the routes share: made when the service starts, gone when it stops."""

from concurrent.futures import Executor
from dataclasses import dataclass

from starlette.requests import Request

from service.admission import Admission
from service.journal import Journal
from service.models import Models
from service.reader import Reader
from service.settings import Settings

KEY = "neocog"  # under which a request's scope holds the state
HEADERS = "neocog.headers"  # and its headers, as a dictionary: Starlette's are searched one by one


@dataclass(frozen=True)
class State:
    """Settings in force, the verified model, and everything that lives as long as the service."""

    settings: Settings
    admission: Admission
    models: Models
    reader: Reader
    journal: Journal | None
    pool: Executor  # for images that would hold the event loop up


def state(request: Request) -> State:
    """The state of the application that `request` came to."""
    serving: State = request.scope[KEY]
    return serving


def header(request: Request, name: bytes) -> str | None:
    """A header by its name in lower case."""
    value: bytes | None = request.scope[HEADERS].get(name)
    return None if value is None else value.decode("latin-1")
