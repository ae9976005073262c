"""The port for probes: /livez, /readyz and /metrics, in a thread with an event loop of its own.

On the service's port a probe waits behind everybody else, and a kubelet that waits too long restarts a pod that is only
busy. Here it waits for nothing but Python's lock.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Final

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service import metrics
from service.edge import problems
from service.edge.admission import Admission
from service.edge.buffers import Buffers
from service.edge.problems import Problem
from service.edge.protocol import Door, Protocol
from service.edge.sockets import bound
from service.readiness import Heartbeat, said_ready
from service.state import State

MAX_CONNECTIONS: Final = 64
READ_SECONDS: Final = 5.0
MAX_BYTES: Final = 1_000_000  # of requests that arrive


class Probes:
    """Listens from now on, until `close`. Raises `SettingsError` where the port cannot be had."""

    def __init__(self, serving: State, heartbeat: Heartbeat) -> None:
        self._serving, self._heartbeat = serving, heartbeat
        self._answers: dict[str, Callable[[], Response]] = {
            "/livez": self._live,
            "/readyz": self._ready,
            "/metrics": self._metrics,
        }
        self._socket = bound(
            serving.settings.host, serving.settings.probe_port, "NEOCOG_PROBE_PORT", shared=serving.settings.workers > 1
        )
        self._config = uvicorn.Config(
            self._answer, http=Protocol, ws="none", lifespan="off", interface="asgi3", proxy_headers=False,
            access_log=False, log_config=None,
        )  # fmt: skip
        self._config.load()
        self._loop = self._config.get_loop_factory()()  # type: ignore[misc]
        self._thread = threading.Thread(target=self._serve, name="probes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(1)

    def _serve(self) -> None:
        door = Door(Admission(MAX_CONNECTIONS, READ_SECONDS), Buffers(MAX_BYTES), READ_SECONDS, MAX_CONNECTIONS, ())
        state = ServerState()

        def protocol() -> Protocol:
            return Protocol(self._config, state, {"door": door}, self._loop)

        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._loop.create_server(protocol, sock=self._socket))
        self._loop.run_forever()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        try:
            answer = self._answers.get(scope["path"])
            if answer is None or scope["method"] not in ("GET", "HEAD"):
                raise Problem("no-such-path", f"this port answers GET {', '.join(self._answers)}")
            response = answer()
        except Exception as error:  # noqa: BLE001 - a bug is a 500, not the end of the connection
            response = problems.answer(problems.of(error))
        await response(scope, receive, send)

    def _live(self) -> Response:
        self._heartbeat.check()
        return Response("ok\n", media_type="text/plain")

    def _ready(self) -> Response:
        self._heartbeat.check()
        return Response(said_ready(self._serving), media_type="text/plain")

    def _metrics(self) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
