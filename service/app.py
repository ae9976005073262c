"""The application: `create_app` makes it, its lifespan owns the model. No verified model, no start."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.bundle import BundleError
from model.predictor import Predictor
from service import predict, probes, problems
from service.settings import Settings, SettingsError
from service.state import State


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application for `settings`; without any they are read from the environment when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        chosen = settings or Settings.from_environment()
        app.state.serving = State(chosen, Predictor.load(chosen.bundle))
        yield

    app = FastAPI(
        title="Neocog",
        summary="Reads handwritten digits.",
        description="Send `/predict` a picture of a digit: any size, dark on light or light on dark, anywhere in it.",
        lifespan=lifespan,
    )
    app.include_router(predict.router)
    app.include_router(probes.router)
    problems.install(app)
    app.add_middleware(OneLineAtStart)
    return app


class OneLineAtStart:
    """A bundle or a setting that stops the service is said in one line, where Starlette gives the whole traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI; everything but the report of a failed start passes unchanged."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def short(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                kind, _, said = message["message"].strip().splitlines()[-1].partition(": ")
                if kind.endswith((BundleError.__name__, SettingsError.__name__)):
                    message["message"] = said
            await send(message)

        await self.app(scope, receive, short)


app = create_app()
