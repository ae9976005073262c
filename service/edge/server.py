"""uvicorn, and what it lacks: a deadline for slow clients, refusal of unread requests, reloading in workers."""

import asyncio
import logging
import os
import re
import signal
import sys
import tempfile
from typing import Any, Final

import uvicorn
from prometheus_client import multiprocess
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from service import logs
from service.edge import problems
from service.edge.admission import Door, raw
from service.edge.problems import Problem
from service.settings import Settings

log = logging.getLogger("neocog.server")

KEEP_ALIVE: Final = 75  # seconds; longer than the proxies in front, which otherwise send into a closing connection
BACKLOG: Final = 1024
MAX_HEAD: Final = 65_536  # bytes of a request's first line and headers
RESTART_PAUSE: Final = 2  # seconds before another try to start a worker that could not start

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d{1,12}) *\r\n", re.IGNORECASE)
_SPECIAL: Final = re.compile(rb"\r\n(?:connection|transfer-encoding|expect|upgrade):", re.IGNORECASE)


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, with three additions.

    A client that has not sent a whole request within `NEOCOG_READ_SECONDS` is cut off; uvicorn waits for ever. Each
    connection has one timer, not each request.

    A request that comes while there is no room is refused here, before it is parsed, where its form leaves no doubt.
    That takes a third of the work of a refusal by `service.edge.front`, which refuses all others. Under three times
    the load that can be answered, most requests are refused, and the time spent refusing is taken from the others.

    While the service drains, every answer closes its connection.
    """

    _reading_since: float | None = None
    _between = True  # no part of a request has been parsed

    def data_received(self, data: bytes) -> None:
        door = self._door
        idle = not self.cycle or self.cycle.response_complete
        if door.admission.full and not door.admission.draining and self._between and idle and self._is_plain(data):
            self._reading_since = None
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(KEEP_ALIVE, self.timeout_keep_alive_handler)
            self.transport.write(door.admission.refused_unread())
        else:
            super().data_received(data)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._door: Door = self.app_state["door"]
        self._door.admission.connections += 1
        self._reading_since = self.loop.time()
        self._deadline = self._door.read_seconds
        self.loop.call_later(self._deadline, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._door.admission.connections -= 1

    def on_headers_complete(self) -> None:
        """While the service drains, the answer closes the connection, so the client opens the next one elsewhere."""
        super().on_headers_complete()
        if self._door.admission.draining and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._between = False
        self._head = 0
        self._reading_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self._bounded(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._bounded(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _bounded(self, more: int) -> None:
        """Counts the bytes before a body; neither uvicorn nor its parser does."""
        self._head += more
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self._refuse(Problem("headers-too-large", f"more than {MAX_HEAD:,} bytes of headers"))

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._between = True
        self._reading_since = None

    def _look(self) -> None:
        """Cuts the connection off where its request is late, or looks again when one may be."""
        if self.transport.is_closing():
            return
        left = self._deadline
        if self._reading_since is not None:
            left -= self.loop.time() - self._reading_since
            if left <= 0 and (self.pipeline or (self.cycle and self.cycle.response_started)):
                left = self._deadline  # an earlier request is being answered, and this one waits for it
            elif left <= 0:
                late = f"the request had not arrived after {self._deadline:g} seconds"
                self._refuse(Problem("too-slow", late))
                return
        self.loop.call_later(left, self._look)

    def _refuse(self, problem: Problem) -> None:
        """Ends the connection. Sends the problem first, unless an answer has begun."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(raw(problems.answer(problem), (b"connection", b"close")))
        self.transport.close()

    def _is_plain(self, data: bytes) -> bool:
        """Whether `data` is exactly one plain request to a direct route, from its first byte to its last."""
        end = data.find(b"\r\n\r\n")
        if end < 0 or not data.startswith(self._door.first_lines) or _SPECIAL.search(data, 0, end):
            return False
        length = _LENGTH.search(data, 0, end + 2)
        return length is not None and len(data) == end + 4 + int(length[1])


class Workers(Multiprocess):
    """uvicorn's supervisor: it starts a worker again that dies. At SIGHUP the workers reload, and do not end."""

    _served = False  # whether any worker has ever been ready

    def handle_hup(self) -> None:
        """Lets each worker load the new bundle beside the old one. uvicorn would restart them all.

        A worker that is still starting loads the new bundle anyway, and SIGHUP would end it.
        """
        for process in self.processes:
            if process.pid is not None and process.is_ready():
                os.kill(process.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        """Starts a worker again that died.

        uvicorn ends all workers when one cannot start. Here the others go on, unless none has ever been ready: a bad
        bundle in the folder is no reason to stop serving the one that is loaded.
        """
        for index, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if process.is_alive(timeout=self.config.timeout_worker_healthcheck):
                self._served = self._served or process.is_ready()
                continue
            process.kill()  # it may hang
            process.join()
            multiprocess.mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
            if process.exitcode == STARTUP_FAILURE:
                if not self._served:
                    self.should_exit.set()
                    return
                log.error("worker %s could not start; another try in %s seconds", process.pid, RESTART_PAUSE)
                self.should_exit.wait(RESTART_PAUSE)
            else:
                log.error("worker %s died, and is started again", process.pid)
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()


def configuration(settings: Settings) -> uvicorn.Config:
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
    """Serves until SIGTERM or SIGINT, and finishes what is in hand. Exits with 0, or with 3 if it cannot start."""
    # uvicorn replaces these handlers while it serves, and raises the signal again once it has ended.
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
