"""Logs: one line of JSON for each event, with the id of its request."""

import json
import logging
import logging.config
import time
from contextvars import ContextVar
from typing import Any, Final

REQUEST: Final[ContextVar[str | None]] = ContextVar("request", default=None)
TRACE: Final[ContextVar[str | None]] = ContextVar("trace", default=None)  # W3C trace id of the request


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
        return json.dumps(document, ensure_ascii=False)


def configuration(log_format: str) -> dict[str, Any]:
    """The configuration for `logging.config`; it includes uvicorn's loggers."""
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
