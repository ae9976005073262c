"""What the routes share: made when the service starts, gone when it stops."""

from dataclasses import dataclass

from fastapi import Request

from model.predictor import Predictor
from service.settings import Settings


@dataclass(frozen=True)
class State:
    """The settings in force and the verified model."""

    settings: Settings
    predictor: Predictor


def state(request: Request) -> State:
    """The state of the application that `request` came to."""
    serving: State = request.app.state.serving
    return serving
