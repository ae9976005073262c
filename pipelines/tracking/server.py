"""The tracking server: its address, a client of it, and what goes wrong when it does not answer."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

NAME: Final = "neocog"  # of the experiment and of the registered model
EMBEDDED: Final = "sqlite:///mlflow.db"

# Defaults for MLflow's own settings; the environment overrides them. With MLflow's defaults, a server that is down is
# only noticed after minutes, and MLflow's output breaks our progress bars.
SETTINGS: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Unreachable(Exception):
    """A call to the tracking server failed; the message says why."""


class UnknownRun(Unreachable):
    """The server answers, but it does not know the run."""


def uri() -> str:
    """The address of the tracking server in use."""
    return os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED


def shown(address: str) -> str:
    """`address` without its password, for people and logs."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else address


@contextmanager
def connected() -> Iterator[mlflow.MlflowClient]:
    """A client of the tracking server. Errors that the server causes are raised as `Unreachable`."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    try:
        mlflow.set_tracking_uri(uri())
        yield mlflow.MlflowClient()
    # The errors of requests are OSErrors. A missing database driver is an ImportError.
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        reason = str(error).splitlines()[0].replace(uri(), shown(uri()))[:160]
        code = getattr(error, "error_code", None)
        raised = UnknownRun if code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST) else Unreachable
        raise raised(f"the tracking server at {shown(uri())} cannot be used ({reason})") from error
