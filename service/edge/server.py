"""Starts uvicorn: its configuration, its sockets, and the signals while it does not serve yet."""

import os
import resource
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from typing import Any, Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from service import logs
from service.edge.protocol import KEEP_ALIVE, Protocol
from service.edge.sockets import bound
from service.edge.workers import Workers
from service.settings import Settings

BACKLOG: Final = 2048
LISTENERS: Final = 16  # uvloop accepts one connection for each of them in a turn of the event loop
FILES: Final = 512  # file descriptors for everything but connections


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
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        log_config=logs.configuration(settings.log_format),
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.grace_seconds / 2)),
    )


class Server(uvicorn.Server):
    """Announces its address when it listens there. uvicorn does that only for a socket that it has made itself."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            self._log_started_message(sockets)


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, and finishes what is in hand. Exits with 0, or with 3 if it cannot start.

    Raises `SettingsError` where the port cannot be had.
    """
    # uvicorn replaces these handlers while it serves, and raises the signal again once it has ended.
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until `Bundles.watch` looks whether the bundle has changed
    _allow_files(settings.max_connections + FILES)
    config = configuration(settings)
    if settings.workers == 1:
        Server(config).run(_listeners(bound(settings.host, settings.port, "NEOCOG_PORT")))
        return
    sockets = _listeners(config.bind_socket())
    with tempfile.TemporaryDirectory(prefix="neocog-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # before the workers import prometheus_client
        workers = Workers(config, sockets)
        workers.run()
    if any(process.exitcode == STARTUP_FAILURE for process in workers.processes):
        sys.exit(STARTUP_FAILURE)


def _listeners(one: socket.socket) -> list[socket.socket]:
    return [one, *(one.dup() for _ in range(LISTENERS - 1))]


def _allow_files(needed: int) -> None:
    """Lets this process open as many files as it may need, as far as it is allowed to: often 1,024 is the default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _end(*_: Any) -> None:
    sys.exit(0)
