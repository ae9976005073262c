"""uvicorn, told what it leaves open: a deadline for slow clients, reloading in workers, and how to end."""

import asyncio
import os
import signal
import sys
import tempfile
from typing import Any, Final

import uvicorn
from prometheus_client import multiprocess
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors.multiprocess import Multiprocess

from service import logs, metrics, problems
from service.problems import Problem
from service.settings import Settings

KEEP_ALIVE: Final = 75  # seconds; longer than the proxies in front, which otherwise send into a closing connection
BACKLOG: Final = 1024


class Protocol(HttpToolsProtocol):
    """Cuts off who has not sent a whole request within `NEOCOG_READ_SECONDS`: uvicorn waits for ever.

    One timer for each connection, not for each request.
    """

    deadline: float = Settings.model_fields["read_seconds"].default
    _reading_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._reading_since = self.loop.time()
        self.loop.call_later(self.deadline, self._look)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading_since = self.loop.time()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._reading_since = None

    def _look(self) -> None:
        """Is a request late? Looks again when the next one may be."""
        if self.transport.is_closing():
            return
        left = self.deadline
        if self._reading_since is not None:
            left -= self.loop.time() - self._reading_since
            if left <= 0:
                self._cut_off()
                return
        self.loop.call_later(left, self._look)

    def _cut_off(self) -> None:
        metrics.REJECTED.labels("slow").inc()
        if self.cycle is None or not self.cycle.response_started:
            late = Problem(408, "too-slow", f"the request had not arrived after {self.deadline:g} seconds")
            said = bytes(problems.answer(late).body)
            head = (
                f"HTTP/1.1 408 Request Timeout\r\ncontent-type: {problems.MEDIA_TYPE}\r\n"
                f"content-length: {len(said)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + said)
        self.transport.close()


class Workers(Multiprocess):
    """uvicorn's supervisor, which starts a worker again that dies. A reload is for the workers, not their end."""

    def handle_hup(self) -> None:
        """Each worker loads the new bundle beside the old one; uvicorn would restart them all."""
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        """Also forgets what a dead worker had in flight."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def configuration(settings: Settings) -> uvicorn.Config:
    Protocol.deadline = settings.read_seconds
    return uvicorn.Config(
        "service.app:app",
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        log_config=logs.configuration(settings.log_format),
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds / 2)),
    )


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, and finishes what is in hand. Exits with 0, or with 3 if it can't start."""
    # uvicorn puts its own handlers over these while it serves, and raises the signal again when it has ended.
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    config = configuration(settings)
    if settings.workers == 1:
        uvicorn.Server(config).run()
        return
    with tempfile.TemporaryDirectory(prefix="neocog-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # before the workers import prometheus_client
        workers = Workers(config, [config.bind_socket()])
        workers.run()
    if any(process.exitcode == STARTUP_FAILURE for process in workers.processes):
        sys.exit(STARTUP_FAILURE)


def _end(*_: Any) -> None:
    sys.exit(0)
