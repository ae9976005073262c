"""Errors as RFC 9457 problem+json, each with a `reason` for machines and a `detail` for people."""

import http
import logging
from typing import Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from model.canonical.images import BadImage, BrokenImage, NoInk, NotAnImage, TooManyPixels
from service import metrics

MEDIA_TYPE: Final = "application/problem+json"
STATUS: Final[dict[str, int]] = {
    BadImage.reason: 400,
    BrokenImage.reason: 400,
    NotAnImage.reason: 415,
    TooManyPixels.reason: 413,
    NoInk.reason: 422,
}

log = logging.getLogger("neocog")


class ProblemDetails(BaseModel):
    """The body of every error (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    reason: str = Field(description="what went wrong, for machines", examples=["no-ink"])
    detail: str = Field(description="what went wrong, for people", examples=["nothing stands out from the paper"])


class Problem(Exception):
    """A request that is answered with an error; after `retry_after` seconds it may be worth another try."""

    def __init__(self, status: int, reason: str, detail: str, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail, self.retry_after = status, reason, detail, retry_after


def of(error: Exception) -> Problem:
    """What is said of `error`. One that nobody expected is logged, and the client is told nothing of it."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, BadImage):
        return Problem(STATUS[error.reason], error.reason, str(error))
    log.error("unexpected error", exc_info=error)
    return Problem(500, "internal-error", "the service failed; the fault is not in the request")


def invalid(error: ValidationError | RequestValidationError) -> Problem:
    """The first thing wrong with what was sent."""
    wrong = error.errors()[0]
    where = ".".join(str(place) for place in wrong["loc"] if place not in ("body", "query")) or "the body"
    return Problem(400, "bad-parameter", f"{where}: {wrong['msg']}")


def details(problem: Problem) -> ProblemDetails:
    title = http.HTTPStatus(problem.status).phrase
    return ProblemDetails(title=title, status=problem.status, reason=problem.reason, detail=problem.detail)


def answer(problem: Problem, path: str = "") -> Response:
    """The error response for `problem`; under /v2 with what that protocol's clients look for beside what ours do."""
    metrics.REJECTED.labels(problem.reason).inc()
    said = details(problem).model_dump()
    if path.startswith("/v2/"):
        said["error"] = problem.detail
    headers = {} if problem.retry_after is None else {"Retry-After": str(problem.retry_after)}
    return Response(orjson.dumps(said), problem.status, headers, MEDIA_TYPE)


def responses(*codes: int) -> dict[int | str, dict[str, object]]:
    """For OpenAPI: what a route may refuse with."""
    said = {
        400: "malformed", 401: "no API key, or an unknown one", 409: "the same Idempotency-Key is being answered",
        413: "too large", 415: "not an image", 422: "no digit in it, or an Idempotency-Key used for something else",
        429: "too many requests; see Retry-After", 503: "busy; see Retry-After",
    }  # fmt: skip
    refused = {"model": ProblemDetails, "content": {MEDIA_TYPE: {}}}
    return {code: {"description": said[code], **refused} for code in codes}


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem, those of the framework included."""

    @app.exception_handler(Problem)
    @app.exception_handler(BadImage)
    @app.exception_handler(Exception)
    async def _problem(_: Request, error: Exception) -> Response:
        return answer(of(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        return answer(invalid(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        reason = {404: "no-such-path", 405: "method-not-allowed"}.get(error.status_code, "http-error")
        response = answer(Problem(error.status_code, reason, f"{request.method} {request.url.path}: {error.detail}"))
        response.headers.update(error.headers or {})
        return response
