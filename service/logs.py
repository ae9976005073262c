"""A line of JSON for whatever happens, with the request it happened to."""

import json
import logging
import logging.config
import time
from contextvars import ContextVar
from typing import Any, Final

REQUEST: Final[ContextVar[str | None]] = ContextVar("request", default=None)
TRACE: Final[ContextVar[str | None]] = ContextVar("trace", default=None)  # the W3C trace id that came with it


class JSONLines(logging.Formatter):
    """One object for each record: time, level, logger, message; request_id, trace_id and exception where there are."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        known = {"request_id": REQUEST.get(), "trace_id": TRACE.get()}
        said |= {name: value for name, value in known.items() if value is not None}
        said |= getattr(record, "more", {})
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False)


def configuration(log_format: str) -> dict[str, Any]:
    """For `logging.config`, uvicorn's own loggers included."""
    formatters = {
        "json": {"()": "service.logs.JSONLines"},
        "text": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": formatters,
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": log_format}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {name: {"level": "INFO"} for name in ("neocog", "uvicorn.error")},
    }
