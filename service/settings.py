"""What can be set from outside: environment variables with the prefix NEOCOG_."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from journal.urls import DEFAULT
from model.canonical.images import MAX_PIXELS

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RATE = re.compile(r"[1-9]\d* ?(/|per) ?(second|minute|hour|day)")


class SettingsError(Exception):
    """An environment variable holds what the service cannot use. Printed as one line."""


def _words(text: str) -> str:
    return ",".join(word.strip() for word in text.split(",") if word.strip())


def _digests(text: str) -> str:
    if not all(_DIGEST.fullmatch(digest) for digest in _words(text).split(",") if digest):
        raise ValueError("SHA-256 digests of 64 hexadecimal digits, with commas between them")
    return _words(text)


def _rate(text: str) -> str:
    if text and not _RATE.fullmatch(text):
        raise ValueError("a number for each second, minute, hour or day, such as 100/second")
    return text


class Settings(BaseSettings):
    """Read once, when the service starts. README's table is made from the descriptions below."""

    model_config = SettingsConfigDict(env_prefix="NEOCOG_", frozen=True)

    bundle: Path = Field(Path("out/champion"), description="the folder of the bundle that is served")
    host: str = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="the port to listen on; 0 takes a free one")
    workers: int = Field(1, ge=1, le=256, description="processes that share the port; each holds the model")
    max_body_bytes: int = Field(10_000_000, ge=1, description="larger request bodies are refused (413)")
    max_buffered_bytes: int = Field(64_000_000, ge=1, description="of all larger bodies at a time; more get 503")
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="images of more pixels are refused before decoding (413)")
    max_batch: int = Field(256, ge=1, description="images in one request to /predict/batch or /v2, at most (413)")
    max_in_flight: int = Field(256, ge=1, description="requests a worker has in hand; more are refused (503)")
    read_seconds: float = Field(10, gt=0, description="a request must have arrived by then; slower clients are cut off")
    grace_seconds: float = Field(20, gt=0, description="what is in hand has so long to finish after SIGTERM")
    drain_seconds: float = Field(
        0, ge=0, description="after SIGTERM, still answer so long, closing each connection behind its answer"
    )
    reload_seconds: float = Field(2, ge=0, description="how often the bundle is looked at for a new one; 0: at SIGHUP")
    shadow_bundle: Path | None = Field(None, description="a challenger's bundle, asked beside the served one")
    shadow_share: float = Field(0.1, ge=0, le=1, description="share of the images that the challenger sees, too")
    journal: str = Field(DEFAULT, description="SQLAlchemy URL of the journal; off: keep none")
    journal_queue: int = Field(10_000, ge=1, description="predictions that wait for the journal; more are dropped")
    journal_max_bytes: int = Field(
        0, ge=0, description="how large SQLite's file may grow; the last tenth is for labels; 0: no bound"
    )
    redis: str = Field("", description="redis://… shares rate limits and idempotent replay between replicas")
    rate_limit: Annotated[str, AfterValidator(_rate)] = Field(
        "", description="of each API key or address, such as 100/second (429)"
    )
    api_keys: Annotated[str, AfterValidator(_digests)] = Field(
        "", description="SHA-256 of the accepted API keys, with commas; without any, none is asked for"
    )
    cors_origins: Annotated[str, AfterValidator(_words)] = Field(
        "", description="origins whose pages may ask, with commas; *: any"
    )
    access_log: bool = Field(default=False, description="a line for every request, not only for failures")
    log_format: Literal["json", "text"] = Field("json", description="json or text")
    revision: str = Field("", description="the git revision of the service, for /version; the image sets it")
    tracing: bool = Field(default=False, description="OpenTelemetry spans, sent where OTEL_EXPORTER_OTLP_ENDPOINT says")

    @classmethod
    def from_environment(cls) -> "Settings":
        """Raises `SettingsError` naming the variable, its value and what is allowed."""
        try:
            return cls()  # type: ignore[call-arg]  # every field has a default, which mypy can't see in Field()
        except ValidationError as error:
            wrong = error.errors()[0]
            allowed = wrong["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            name = f"NEOCOG_{wrong['loc'][0]}".upper()
            raise SettingsError(f"{name} is {wrong['input']!r}, allowed is: {allowed}") from None
