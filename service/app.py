"""The application: `create_app` makes it, its lifespan owns the model. No verified model, no start."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.bundle import BundleError
from service import feedback, metrics, operations, page, predict, problems, v2
from service.admission import Admission
from service.front import Front
from service.journal import OFF, Journal
from service.models import Models, Shadow
from service.reader import Reader
from service.settings import Settings, SettingsError
from service.state import State

SAMPLED: Final = 0.1  # seconds between two looks at what the gauges show
GARBAGE: Final = 50_000  # objects made before the collector looks
DECODERS: Final = 2  # threads for large images; each may hold one decoded


def create_app(settings: Settings | None = None) -> ASGIApp:
    """The application for `settings`; without any they are read from the environment when it starts."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        chosen = settings or Settings.from_environment()
        shadow = Shadow(chosen.shadow_bundle, chosen.shadow_share) if chosen.shadow_bundle else None
        models = Models(chosen.bundle, shadow)
        with ThreadPoolExecutor(DECODERS, "decode") as pool:
            reader = Reader(models, asyncio.get_running_loop())
            admission = Admission(chosen.max_in_flight, chosen.max_buffered_bytes)
            journal = None if chosen.journal == OFF else Journal(chosen.journal, chosen.journal_queue)
            front.open(State(chosen, admission, models, reader, journal, pool))
            gc.collect()
            gc.freeze()  # what was made so far stays: the collector need not look at it again
            gc.set_threshold(GARBAGE)  # a request makes no cycles; looking for some every 700 objects costs 2 %
            watch = asyncio.create_task(models.watch(chosen.reload_seconds))
            sample = asyncio.create_task(_sample(admission, journal))
            yield {"admission": admission, "read_seconds": chosen.read_seconds}  # for service.server.Protocol
            watch.cancel()
            sample.cancel()
        if shadow is not None:
            shadow.close()
        if journal is not None:
            journal.close(chosen.grace_seconds / 2)  # nothing else is left that the loop could do
        if chosen.tracing:
            from service.tracing import flush  # noqa: PLC0415

            flush()

    api = FastAPI(
        title="Neocog",
        version=version("neocog"),
        summary="Reads handwritten digits.",
        description="Send `/predict` a picture of a digit: any size, dark on light or light on dark, anywhere in it.",
        lifespan=lifespan,
    )
    for router in (predict.router, feedback.router, v2.router, operations.router, page.router):
        api.include_router(router)
    problems.install(api)
    front = Front(OneLineAtStart(api))
    return _wrapped(front, settings)


def _wrapped(app: ASGIApp, settings: Settings | None) -> ASGIApp:
    """With what was asked for around it: other origins' pages let in, spans for OpenTelemetry."""
    try:
        chosen = settings or Settings.from_environment()
    except SettingsError:  # the lifespan will say what is wrong with them
        return app
    if chosen.cors_origins:
        app = CORSMiddleware(app, chosen.cors_origins.split(","), allow_methods=["GET", "POST"], allow_headers=["*"])
    if chosen.tracing:
        from service.tracing import traced  # noqa: PLC0415 - an extra that few have installed

        app = traced(app)
    return app


async def _sample(admission: Admission, journal: Journal | None) -> None:
    """Keeps the gauges up to date, which would cost every request otherwise. Endless."""
    while True:
        metrics.IN_FLIGHT.set(admission.in_flight)
        metrics.JOURNAL_QUEUE.set(journal.depth if journal else 0)
        await asyncio.sleep(SAMPLED)


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
