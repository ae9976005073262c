"""The outermost layer, plain ASGI: who asks, whether there is room, which function answers, and what it cost.

The routes that do work (`DIRECT`) are ordinary FastAPI routes of the form Request -> Response. FastAPI documents them;
here their functions are called directly, because what FastAPI does around a function (dependencies, validation of
parameters, its middleware) takes longer than everything these do themselves. All other paths go through FastAPI.
"""

import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs, metrics, problems
from service.feedback import feedback
from service.ids import new_id
from service.limits import Keys, Rate, Replays
from service.predict import predict, predict_batch
from service.problems import Problem
from service.state import HEADERS, KEY, State
from service.upload import body
from service.v2 import infer

Endpoint = Callable[[Request], Awaitable[Response]]

DIRECT: Final[dict[str, Endpoint]] = {
    "/predict": predict,
    "/predict/batch": predict_batch,
    "/feedback": feedback,
    "/v2/models/digits/infer": infer,
}
SMALL_BODY: Final = 65_536  # bytes; what is larger counts towards `NEOCOG_MAX_BUFFERED_BYTES`
_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

access = logging.getLogger("neocog.access")


class Front:
    """The ASGI application. `open` gives it what it serves with, when the service starts."""

    def __init__(self, api: ASGIApp) -> None:
        self._api = api
        self._state: State | None = None

    def open(self, serving: State) -> None:
        settings = serving.settings
        self._state = serving
        self._admission = serving.admission
        self._max_body = settings.max_body_bytes
        self._keys = Keys(settings.api_keys)
        self._rate = Rate(settings.rate_limit, settings.redis) if settings.rate_limit else None
        self._replays = Replays(settings.redis)
        self._access_log = settings.access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        begun = time.perf_counter()
        headers = dict(scope["headers"])
        echoed = _identified(headers)
        scope[KEY], scope[HEADERS] = self._state, headers
        path, route, code = scope["path"], "other", 500
        try:
            if scope["method"] == "POST" and (endpoint := DIRECT.get(path)) is not None:
                route = path
                response = await self._directly(endpoint, Request(scope, receive, send), headers)
                code = response.status_code
            elif path.isprintable():
                code = await self._through_fastapi(scope, receive, send, echoed)
                route = getattr(scope.get("route"), "path", "other")
                return
            else:  # a route's pattern matches with a line's end behind it, too, and would pass by what stands here
                code = 404
                response = problems.answer(Problem(code, "no-such-path", "a path of printable characters is needed"))
            response.raw_headers += echoed
            await response(scope, receive, send)
        finally:
            took = time.perf_counter() - begun
            count, duration = metrics.answered(route, code)
            count.inc()
            duration.observe(took)
            if self._access_log or code == 500:
                more = {"method": scope["method"], "path": path, "code": code, "milliseconds": round(took * 1e3, 3)}
                shown = path if path.isprintable() else ascii(path)
                access.info("%s %s %d", scope["method"], shown, code, extra={"more": more})

    async def _directly(self, endpoint: Endpoint, request: Request, headers: dict[bytes, bytes]) -> Response:
        """The endpoint's answer, or the problem it ran into.

        Nothing is in hand before its body has arrived: slow clients take nobody's place, and large bodies have a room
        of their own.
        """
        admission, limit, path = self._admission, self._max_body, request.scope["path"]
        length = headers.get(b"content-length", b"")
        size = min(int(length), limit) if length.isdigit() and len(length) < 13 else limit
        large = size > SMALL_BODY
        if admission.full or (large and not admission.reserve(size)):
            return admission.refusal(path)
        try:
            client = request.scope["client"]
            caller = self._keys.caller(headers, client[0] if client else "")
            if self._rate is not None:
                await self._rate.count(caller)
            sent = await body(request, limit)
            if admission.full:
                return admission.refusal(path)
            admission.enter()
            try:
                if b"idempotency-key" in headers:
                    key = headers[b"idempotency-key"].decode("latin-1")
                    return await self._once(endpoint, request, sent, caller, key)
                return await endpoint(request)
            finally:
                admission.leave()
        except Exception as error:  # noqa: BLE001 - a bug is a 500, not the end of the connection
            return problems.answer(problems.of(error), path)
        finally:
            if large:
                admission.release(size)

    async def _once(self, endpoint: Endpoint, request: Request, sent: bytes, caller: str, key: str) -> Response:
        """The endpoint's answer, or the one it gave to the same key before."""
        scope = request.scope
        asked = scope["path"] + "?" + scope["query_string"].decode("latin-1")
        name, kept = await self._replays.claim(caller, asked, key, sent)
        if kept is not None:
            return kept
        try:
            response = await endpoint(request)
        except Exception as error:  # noqa: BLE001 - it is kept, too
            response = problems.answer(problems.of(error), scope["path"])
        await self._replays.keep(name, sent, response)
        return response

    async def _through_fastapi(
        self, scope: Scope, receive: Receive, send: Send, echoed: list[tuple[bytes, bytes]]
    ) -> int:
        """The status that FastAPI answered with."""
        code = 500

        async def noted(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
                message["headers"] = [*message["headers"], *echoed]
            await send(message)

        await self._api(scope, receive, noted)
        return code


def _identified(headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The headers by which the answer is known again; the log has them from here on."""
    identity = headers.get(b"x-request-id")
    if identity is None or not _REQUEST_ID.fullmatch(identity):
        identity = new_id().encode()
    logs.REQUEST.set(identity.decode())
    echoed = [(b"x-request-id", identity)]
    trace = headers.get(b"traceparent")
    if trace is not None and (found := _TRACEPARENT.fullmatch(trace)):
        logs.TRACE.set(found[1].decode())
        echoed.append((b"traceparent", trace))
    return echoed
