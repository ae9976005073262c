"""The application: `create_app` makes it, its lifespan owns the resources. No verified bundle, no start."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from journal.errors import WrongUrl
from journal.urls import OFF
from journal.writer import Journal
from service import metrics
from service.bundles import Bundles, Shadow
from service.callers import Callers
from service.decoding.pool import Decoders
from service.drift import Drift
from service.edge import problems
from service.edge.admission import Admission
from service.edge.buffers import Buffers
from service.edge.draining import drain_first
from service.edge.front import Front
from service.edge.probes import Probes
from service.edge.protocol import Door
from service.edge.routing import Table, open_to_all
from service.edge.startup import OneLineAtStart, collect_rarely
from service.labelling import Labelling
from service.openapi import described
from service.reader import Reader
from service.readiness import Heartbeat
from service.routes import drift, feedback, label, operations, page, predict, v2
from service.settings import Settings, SettingsError
from service.state import State

WELCOME: Final = "Send `/predict` a picture of a digit: any size, dark on light or light on dark, anywhere in it."
ROUTERS: Final = (
    predict.router,
    feedback.router,
    label.router,
    v2.router,
    operations.router,
    drift.router,
    page.router,
)


def create_app(settings: Settings | None = None) -> ASGIApp:
    """The application for `settings`. Without any, it reads them from the environment when it starts."""

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        chosen = settings or Settings.from_environment()
        shadow = Shadow(chosen.shadow_bundle, chosen.shadow_share) if chosen.shadow_bundle else None
        bundles = Bundles(chosen.bundle, shadow)
        async with Decoders(chosen.max_pixels, chosen.max_in_flight) as decoders:
            reader = Reader(bundles, asyncio.get_running_loop())
            admission = Admission(chosen.max_in_flight, chosen.wait_seconds, lambda: reader.waiting)
            heartbeat = Heartbeat()
            callers = Callers(chosen.caller_secret)
            labelling = Labelling(chosen, callers)
            journal = open_journal(chosen)
            serving = State(
                chosen, admission, bundles, reader, journal, callers, labelling, Drift(journal, bundles), decoders
            )
            probes = Probes(serving, heartbeat) if chosen.probe_port else None
            front.open(serving)
            documented = api.openapi
            api.openapi = lambda: described(documented(), bundles.labels)  # type: ignore[method-assign]
            collect_rarely()
            watch = asyncio.create_task(bundles.watch(chosen.reload_seconds))
            sample = asyncio.create_task(metrics.sample(admission, journal))
            beat = asyncio.create_task(heartbeat.keep())
            drain_first(admission, chosen.drain_seconds, chosen.grace_seconds)
            first_lines = tuple(f"POST {path} HTTP/1.1\r\n".encode() for path in table.direct)
            buffers = Buffers(chosen.max_buffered_bytes)
            door = Door(admission, buffers, chosen.read_seconds, chosen.max_connections, first_lines)
            yield {"serving": serving, "door": door}
            for task in (watch, sample, beat):
                task.cancel()
            bundles.close()
        if probes is not None:
            probes.close()
        if shadow is not None:
            shadow.close()
        if journal is not None:
            journal.close(chosen.grace_seconds / 4)  # uvicorn has had half of it; the last quarter is for what is left
        if chosen.tracing:
            from service.tracing import flush  # noqa: PLC0415

            flush()

    api = FastAPI(
        title="Neocog",
        version=version("neocog"),
        summary="Reads handwritten digits.",
        description=f"{WELCOME}\n\nEvery error has a `reason`:\n\n{problems.catalogue()}",
        lifespan=lifespan,
    )
    routes = [*api.routes]  # FastAPI's own: the documentation
    for route in routes:
        if isinstance(route, Route):
            open_to_all(route.endpoint)
    for router in ROUTERS:
        api.include_router(router)
        routes += router.routes
    problems.install(api)
    table = Table(routes)
    front = Front(OneLineAtStart(api), table)
    return _wrapped(front, settings)


def open_journal(settings: Settings) -> Journal | None:
    """The journal that the settings name. Raises `SettingsError`."""
    if settings.journal == OFF:
        return None
    try:
        return Journal(
            settings.journal,
            settings.journal_queue,
            settings.journal_max_bytes,
            settings.journal_days,
            written=metrics.JOURNAL_WRITTEN.inc,
            dropped=metrics.JOURNAL_DROPPED.inc,
            removed=metrics.JOURNAL_REMOVED.inc,
        )
    except WrongUrl as error:
        raise SettingsError(str(error)) from None


def _wrapped(app: ASGIApp, settings: Settings | None) -> ASGIApp:
    """`app`, and around it what the settings ask for: pages of other origins, spans for OpenTelemetry."""
    try:
        chosen = settings or Settings.from_environment()
    except SettingsError:  # the lifespan reports it
        return app
    if chosen.cors_origins:
        app = CORSMiddleware(app, chosen.cors_origins.split(","), allow_methods=["GET", "POST"], allow_headers=["*"])
    if chosen.tracing:
        from service.tracing import traced  # noqa: PLC0415 - an extra that few install

        app = traced(app)
    return app


app = create_app()
