"""Errors as RFC 9457 problem+json, each with a `reason` for machines and a `detail` for people."""

import http
import logging
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from model.images import BadImage, BrokenImage, NoInk, NotAnImage, TooManyPixels

MEDIA_TYPE: Final = "application/problem+json"
STATUS: Final[dict[str, int]] = {
    BadImage.reason: 400,
    BrokenImage.reason: 400,
    NotAnImage.reason: 415,
    TooManyPixels.reason: 413,
    NoInk.reason: 422,
}


class ProblemDetails(BaseModel):
    """The body of every error (RFC 9457)."""

    type: str = "about:blank"
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    reason: str = Field(description="what went wrong, for machines", examples=["no-ink"])
    detail: str = Field(description="what went wrong, for people")


class Problem(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail = status, reason, detail


def answer(problem: Problem) -> Response:
    """The error response for `problem`."""
    title = http.HTTPStatus(problem.status).phrase
    body = ProblemDetails(title=title, status=problem.status, reason=problem.reason, detail=problem.detail)
    return Response(body.model_dump_json(), problem.status, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Makes every error of `app` a problem, those of the framework included."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, error: Problem) -> Response:
        return answer(error)

    @app.exception_handler(BadImage)
    async def _bad_image(_: Request, error: BadImage) -> Response:
        return answer(Problem(STATUS[error.reason], error.reason, str(error)))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        wrong = error.errors()[0]
        return answer(Problem(400, "bad-parameter", f"{wrong['loc'][-1]}: {wrong['msg']}"))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        reason = {404: "no-such-path", 405: "method-not-allowed"}.get(error.status_code, "http-error")
        response = answer(Problem(error.status_code, reason, f"{request.method} {request.url.path}: {error.detail}"))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def _bug(_: Request, error: Exception) -> Response:
        logging.getLogger("neocog").error("unexpected error", exc_info=error)
        return answer(Problem(500, "internal-error", "the service failed; the fault is not in the request"))
