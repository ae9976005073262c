"""The application: `create_app` makes it, its lifespan owns the model. No verified model, no start."""

import asyncio
import contextlib
import gc
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
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

log = logging.getLogger("neocog.app")

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
            journal = (
                None
                if chosen.journal == OFF
                else Journal(chosen.journal, chosen.journal_queue, chosen.journal_max_bytes)
            )
            front.open(State(chosen, admission, models, reader, journal, pool))
            gc.collect()
            gc.freeze()  # what was made so far stays: the collector need not look at it again
            gc.set_threshold(GARBAGE)  # a request makes no cycles; looking for some every 700 objects costs 2 %
            watch = asyncio.create_task(models.watch(chosen.reload_seconds))
            sample = asyncio.create_task(_sample(admission, journal))
            drain_first(admission, chosen.drain_seconds)
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


def drain_first(admission: Admission, seconds: float) -> None:
    """Puts `drain` before what SIGTERM does now, which closes every connection that is idle just then.

    On one that a client keeps alive its next request may be on the way, and would be lost: a pod that is to go has to
    say so first.
    """
    end = signal.getsignal(signal.SIGTERM)  # uvicorn's
    if seconds and callable(end) and threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        leaving: set[asyncio.Task[None]] = set()  # asyncio itself keeps none

        def leave() -> None:
            if not leaving:
                leaving.add(loop.create_task(drain(admission, seconds, lambda: end(signal.SIGTERM, None))))

        loop.add_signal_handler(signal.SIGTERM, leave)


async def drain(admission: Admission, seconds: float, end: Callable[[], object]) -> None:
    """Answers on, closing connections behind their answers, until all are gone or so many seconds have passed."""
    log.info("draining: %d connections have %g seconds to say their last", admission.connections, seconds)
    admission.draining = True
    deadline = time.monotonic() + seconds
    while admission.connections and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    end()


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
        metrics.JOURNAL_FULL.set(journal is not None and journal.full)
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
