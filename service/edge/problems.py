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

from model.canonical.images import BadImage
from service import metrics

MEDIA_TYPE: Final = "application/problem+json"
# Every reason, its status and when it is given. `Problem` takes no other; /docs shows this table.
REASONS: Final[dict[str, tuple[int, str]]] = {
    "bad-image": (400, "The picture cannot be used."),
    "bad-parameter": (400, "A parameter, a header or a field has a value that is not allowed."),
    "bad-tensor": (400, "A tensor of /v2 has another name, type, shape or value than the model takes."),
    "broken-image": (400, "The picture cannot be decoded to its end."),
    "empty-body": (400, "The request holds no picture."),
    "incomplete-body": (400, "The connection broke off before the end of the body."),
    "malformed-base64": (400, "A picture in JSON is not base64."),
    "malformed-http": (400, "What arrived is not a request in HTTP/1.1."),
    "malformed-json": (400, "The body is not JSON."),
    "malformed-multipart": (400, "The form cannot be read."),
    "missing-field": (400, "The body lacks a field that is needed."),
    "unauthorized": (401, "There is no API key, or an unknown one."),
    "nobody-may-label": (403, "NEOCOG_LABELLER_KEYS is empty."),
    "no-such-path": (404, "There is no such path."),
    "method-not-allowed": (405, "The path does not take this method."),
    "too-slow": (408, "The request did not arrive in time."),
    "in-progress": (409, "A request with this Idempotency-Key is being answered."),
    "body-too-large": (413, "The body is larger than NEOCOG_MAX_BODY_BYTES, or than its route needs."),
    "too-costly": (413, "The picture takes more time or memory to decode than one may."),
    "too-many-images": (413, "The request holds more pictures than NEOCOG_MAX_BATCH."),
    "too-many-parts": (413, "The form has too many parts."),
    "too-many-values": (413, "The JSON holds more values than its route needs."),
    "too-many-pixels": (413, "The pictures claim more pixels than NEOCOG_MAX_PIXELS, or than fit into a decoder."),
    "not-an-image": (415, "The data is in no format that is read here."),
    "unsupported-content-type": (415, "The body has a content type that is not read here."),
    "idempotency-key-reused": (422, "This Idempotency-Key came with another body before."),
    "no-ink": (422, "Nothing in the picture stands out from the paper."),
    "rate-limited": (429, "The caller has used up NEOCOG_RATE_LIMIT."),
    "headers-too-large": (431, "The headers are too large."),
    "http-error": (500, "The framework refused the request. The status is its own."),
    "internal-error": (500, "The service failed. The fault is not in the request."),
    "busy": (503, "The service has as many requests in hand, or as much of them in memory, as it takes."),
    "draining": (503, "The service is about to end."),
    "stalled": (503, "The event loop has not turned for a while."),
    "golden-failed": (503, "The model no longer reads a golden picture as it must."),
    "journal-full": (503, "The journal has no room for the label."),
    "journal-unavailable": (503, "The journal's database cannot be written to."),
    "no-decoder": (503, "No process that decodes pictures could be started."),
    "no-journal": (503, "This service keeps no journal."),
}

log = logging.getLogger("neocog")


class ProblemDetails(BaseModel):
    """The body of every error (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    reason: str = Field(
        description="what went wrong, for machines", examples=["no-ink"], json_schema_extra={"enum": [*REASONS]}
    )
    detail: str = Field(description="what went wrong, for people", examples=["nothing stands out from the paper"])


class Problem(Exception):
    """A request that is answered with an error. After `retry_after` seconds it may be worth another try."""

    def __init__(self, reason: str, detail: str, *, retry_after: int | None = None, status: int | None = None) -> None:
        super().__init__(detail)
        self.status = status or REASONS[reason][0]
        self.reason, self.detail, self.retry_after = reason, detail, retry_after


def of(error: Exception) -> Problem:
    """The problem to answer with. An error that nobody expected is logged, and the client learns nothing of it."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, BadImage):
        return Problem(error.reason, str(error))
    log.error("unexpected error", exc_info=error)
    return Problem("internal-error", "the service failed; the fault is not in the request")


def invalid(error: ValidationError | RequestValidationError) -> Problem:
    """The first thing that is wrong with a body."""
    wrong = error.errors()[0]
    where = ".".join(str(place) for place in wrong["loc"] if place not in ("body", "query")) or "the body"
    return Problem("bad-parameter", f"{where}: {wrong['msg']}")


def details(problem: Problem) -> ProblemDetails:
    title = http.HTTPStatus(problem.status).phrase
    return ProblemDetails(title=title, status=problem.status, reason=problem.reason, detail=problem.detail)


def answer(problem: Problem, path: str = "") -> Response:
    """The error response for `problem`. Under /v2 it also has the field `error` of that protocol."""
    metrics.REJECTED.labels(problem.reason).inc()
    document = details(problem).model_dump()
    if path.startswith("/v2/"):
        document["error"] = problem.detail
    headers = {} if problem.retry_after is None else {"Retry-After": str(problem.retry_after)}
    return Response(orjson.dumps(document), problem.status, headers, MEDIA_TYPE)


def catalogue() -> str:
    """Every reason, as a table in Markdown."""
    rows = [f"| `{reason}` | {status} | {when} |" for reason, (status, when) in REASONS.items()]
    return "\n".join(["| reason | status | when |", "|---|---|---|", *rows])


def responses(*codes: int) -> dict[int | str, dict[str, object]]:
    """For OpenAPI: the errors a route may answer with."""
    refused = {"model": ProblemDetails, "content": {MEDIA_TYPE: {}}}
    return {
        code: {"description": ", ".join(reason for reason, (status, _) in REASONS.items() if status == code), **refused}
        for code in codes
    }


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem, the framework's own included."""

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
        detail = f"{request.method} {request.url.path}: {error.detail}"
        response = answer(Problem(reason, detail, status=error.status_code))
        response.headers.update(error.headers or {})
        return response
