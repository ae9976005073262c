"""The service's settings: environment variables with the prefix NEOCOG_."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from journal.urls import DEFAULT
from model.canonical.images import MAX_PIXELS

_DIGEST = re.compile(r"[0-9a-f]{64}")
_RATE = re.compile(r"[1-9]\d* ?(/|per) ?(second|minute|hour|day)")


class SettingsError(Exception):
    """An environment variable has a value that the service cannot use. It is printed as one line."""


def _words(text: str) -> str:
    return ",".join(word.strip() for word in text.split(",") if word.strip())


def _digests(text: str) -> str:
    if not all(_DIGEST.fullmatch(digest) for digest in _words(text).split(",") if digest):
        raise ValueError("SHA-256 digests of 64 hexadecimal digits, with commas between them")
    return _words(text)


def _with_secret(text: str, info: ValidationInfo) -> str:
    if text and not info.data.get("caller_secret"):
        raise ValueError("digests with NEOCOG_CALLER_SECRET set, which signs what /label shows")
    return text


def _rate(text: str) -> str:
    if text and not _RATE.fullmatch(text):
        raise ValueError("a number for each second, minute, hour or day, such as 100/second")
    return text


class Settings(BaseSettings):
    """Read once, when the service starts. docs/settings.md shows the descriptions; a test compares them."""

    model_config = SettingsConfigDict(env_prefix="NEOCOG_", frozen=True)

    bundle: Path = Field(Path("out/champion"), description="folder of the bundle to serve")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    probe_port: int = Field(
        0, ge=0, le=65535, description="port for /livez, /readyz and /metrics alone, never busy; 0 opens none"
    )
    workers: int = Field(
        1, ge=1, le=256, description="processes that share the port; each holds the model and two decoders"
    )
    max_body_bytes: int = Field(10_000_000, ge=1, description="bytes of a request body; a larger one gets 413")
    max_buffered_bytes: int = Field(
        64_000_000, ge=1, description="total bytes of requests that arrive, wait or are large; beyond it, 503"
    )
    max_pixels: int = Field(
        MAX_PIXELS, ge=1, description="pixels of a picture; a larger one gets 413 before it is decoded"
    )
    max_batch: int = Field(256, ge=1, description="pictures in one request to /predict/batch or /v2; more get 413")
    max_in_flight: int = Field(256, ge=1, description="requests that a worker handles at a time; more wait")
    wait_seconds: float = Field(1, gt=0, description="time a request waits where there is no room; then it gets 503")
    max_connections: int = Field(
        10_000, ge=1, description="open connections of a worker; beyond it, the longest idle ones are closed"
    )
    read_seconds: float = Field(
        10, gt=0, description="time for a request to arrive; slower clients get 408. Also to read an answer"
    )
    grace_seconds: float = Field(20, gt=0, description="time to finish requests after SIGTERM")
    drain_seconds: float = Field(
        0, ge=0, description="time after SIGTERM in which the service still answers; each answer closes its connection"
    )
    reload_seconds: float = Field(
        2, ge=0, description="time between two checks for a new bundle; 0 checks at SIGHUP only"
    )
    shadow_bundle: Path | None = Field(
        None, description="folder for a challenger's bundle, which sees requests but never answers"
    )
    shadow_share: float = Field(0.1, ge=0, le=1, description="share of the pictures that the challenger sees")
    journal: str = Field(DEFAULT, description="SQLAlchemy URL of the journal, or off")
    journal_queue: int = Field(
        10_000, ge=1, description="predictions that may wait for the journal; more are dropped and counted"
    )
    journal_max_bytes: int = Field(
        0, ge=0, description="bound of SQLite's file, in which the oldest unlabelled predictions make room; 0 sets none"
    )
    journal_days: float = Field(
        0, ge=0, description="age at which a prediction that nobody labelled is removed; 0 keeps it for ever"
    )
    redis: str = Field("", description="redis://…, to share rate limits and idempotent replay between replicas")
    rate_limit: Annotated[str, AfterValidator(_rate)] = Field(
        "", description="requests of each API key or address, such as 100/second; more get 429"
    )
    api_keys: Annotated[str, AfterValidator(_digests)] = Field(
        "", description="SHA-256 digests of the accepted API keys, separated by commas; empty accepts everybody"
    )
    caller_secret: str = Field(
        "",
        description="secret that hashes callers for the journal and signs what /label shows; replicas share it",
    )
    labeller_keys: Annotated[str, AfterValidator(_digests), AfterValidator(_with_secret)] = Field(
        "", description="SHA-256 digests of the API keys whose holders may use /label; empty: nobody may"
    )
    trusted_proxies: Annotated[str, AfterValidator(_words)] = Field(
        "", description="addresses of proxies whose X-Forwarded-For names the client, separated by commas; * trusts all"
    )
    cors_origins: Annotated[str, AfterValidator(_words)] = Field(
        "", description="origins whose pages may call the service, separated by commas; * accepts all"
    )
    access_log: bool = Field(default=False, description="log every request, not only failures")
    log_format: Literal["json", "text"] = Field("json", description="json or text")
    revision: str = Field("", description="git revision of the service, for /version; the image sets it")
    tracing: bool = Field(default=False, description="send OpenTelemetry spans to OTEL_EXPORTER_OTLP_ENDPOINT")

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
