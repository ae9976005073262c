"""Logs: one line of JSON for each event, with the id of its request. Logging waits for nobody who reads the lines."""

import json
import logging
import logging.config
import os
import select
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any, Final

REQUEST: Final[ContextVar[str | None]] = ContextVar("request", default=None)
TRACE: Final[ContextVar[str | None]] = ContextVar("trace", default=None)  # W3C trace id of the request

MAX_TEXT: Final = 8192  # characters of a message or a traceback; a longer one loses its middle
MAX_WAITING: Final = 1_000_000  # bytes of lines that wait to be written; further lines are dropped
FLUSH_SECONDS: Final = 2.0  # that the end of the process waits, at most, until its lines are written


class Stderr(logging.Handler):
    """Hands each line to a thread, which writes it to stderr. Lines for which there is no room are dropped and counted.

    A pipe holds 64 kB. Who writes to a full one waits until somebody reads it, and the event loop must not wait.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: SimpleQueue[bytes | threading.Event | None] = SimpleQueue()
        self._logged = self._written = 0  # bytes; only those who log change the first, only the thread the second
        self._refused = self._failed = self._reported = 0  # lines; again, each is changed by one side
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Bytes that are not written yet: at most `MAX_WAITING`, and one line."""
        return self._logged - self._written

    @property
    def dropped(self) -> int:
        """Lines that were not written, and will not be."""
        return self._refused + self._failed

    def emit(self, record: logging.LogRecord) -> None:
        if self.waiting > MAX_WAITING:
            self._refused += 1  # no metric: its lock may be held by the thread that this very call interrupted
            return
        try:
            line = self._line(record)
        except Exception:  # noqa: BLE001 - a record that cannot be formatted is no reason to fail
            self.handleError(record)
            return
        self._logged += len(line)
        self._lines.put(line)

    def flush(self) -> None:
        """Waits until the lines are written, for `FLUSH_SECONDS` at most. `logging` calls this as the process ends."""
        if self._thread.is_alive():
            written = threading.Event()
            self._lines.put(written)
            written.wait(FLUSH_SECONDS)

    def close(self) -> None:
        self._lines.put(None)
        super().close()

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def _write_all(self) -> None:
        """What the thread does until the handler is closed."""
        closed = False
        while not closed:
            waiting = [self._lines.get()]
            while not self._lines.empty():
                waiting.append(self._lines.get())
            for piece in _pieces(line for line in waiting if isinstance(line, bytes)):
                self._write(piece)
                self._written += len(piece)
            if self._refused > self._reported and self._lines.empty():
                self._report(self._refused - self._reported)
            for flushed in waiting:
                if isinstance(flushed, threading.Event):
                    flushed.set()
            closed = None in waiting

    def _report(self, lines: int) -> None:
        message = f"{lines} lines were not logged: stderr was read too slowly"
        level = logging.WARNING
        self._write(self._line(logging.LogRecord("neocog.logs", level, __file__, 0, message, None, None)))
        self._reported += lines

    def _write(self, piece: bytes) -> None:
        """Waits as long as nobody reads."""
        left = memoryview(piece)
        try:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # whoever made the pipe wants to wait for nobody, either
                    select.select((), (self._descriptor,), ())
        except OSError:  # nobody will ever read it
            self._failed += piece.count(b"\n")


def stderr() -> Stderr:
    """The handler of a process. Python's warnings go through it, too."""
    logging.captureWarnings(True)  # noqa: FBT003 - so it is called
    # Without a stderr, descriptor 2 may belong to a client or a file: nothing must be written there.
    return Stderr(-1 if sys.stderr is None else 2)


def dropped() -> int:
    """Lines that this process did not write."""
    return sum(handler.dropped for handler in logging.getLogger().handlers if isinstance(handler, Stderr))


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """`lines` in as few pieces as may be. A pipe mixes no piece of up to `PIPE_BUF` bytes with those of other workers.

    Each write costs the thread a turn with the event loop.
    """
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > select.PIPE_BUF:
            yield piece
            piece = b""
        piece += line
    if piece:
        yield piece


def _shortened(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"


class JSONLines(logging.Formatter):
    """One JSON object for each record: time, level, logger, message; where known request_id, trace_id, exception."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        known = {"request_id": REQUEST.get(), "trace_id": TRACE.get()}
        document |= {name: value for name, value in known.items() if value is not None}
        document |= getattr(record, "more", {})
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        short = {name: _shortened(value) if isinstance(value, str) else value for name, value in document.items()}
        return json.dumps(short, ensure_ascii=False)


class TextLines(logging.Formatter):
    """A line for people, and below it the traceback, where there is one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return _shortened(super().format(record))


def configuration(log_format: str) -> dict[str, Any]:
    """The configuration for `logging.config`; it includes uvicorn's loggers."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "service.logs.JSONLines"}, "text": {"()": "service.logs.TextLines"}},
        "handlers": {"stderr": {"()": "service.logs.stderr", "formatter": log_format}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {name: {"level": "INFO"} for name in ("neocog", "uvicorn.error")},
    }
