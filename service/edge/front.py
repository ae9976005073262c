"""The outermost layer, plain ASGI: who asks, whether there is room, which function answers, and what it cost.

Every request takes one of three ways. A direct route is called here, with a `Call`. Any other protected route gets the
same protection, and then FastAPI answers. Open routes wait for one another in the `Lane`, and FastAPI answers them.
`service.edge.routing` has the table.
"""

import logging
import re
import time
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from journal.ids import new_id
from service import logs, metrics
from service.edge import problems
from service.edge.calls import Call
from service.edge.keys import Keys
from service.edge.lane import Lane
from service.edge.problems import Problem
from service.edge.rates import Rate
from service.edge.replays import Replays
from service.edge.routing import Endpoint, Table
from service.edge.upload import read_body
from service.state import State

_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

access = logging.getLogger("neocog.access")


class Front:
    """The ASGI application. `open` hands it the state when the service starts."""

    def __init__(self, api: ASGIApp, table: Table) -> None:
        self._api = api
        self.table = table
        self._direct = table.direct

    def open(self, serving: State) -> None:
        settings = serving.settings
        self._serving = serving
        self._admission = serving.admission
        self._max_body = settings.max_body_bytes
        # Whoever may label may ask. Where no API key is needed, a key of /label is not looked at here.
        self._keys = Keys(settings.api_keys and f"{settings.api_keys},{settings.labeller_keys}")
        self._rate = Rate(settings.rate_limit, settings.redis) if settings.rate_limit else None
        self._replays = Replays(settings.redis)
        self._lane = Lane()
        self._access_log = settings.access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        begun = time.perf_counter()
        headers = dict(scope["headers"])
        echoed = _identified(headers)
        path, route, code = scope["path"], "other", 500
        try:
            if scope["method"] == "POST" and (endpoint := self._direct.get(path)) is not None:
                route = path
                response = await self._protected(endpoint, scope, receive, headers)
                code = response.status_code
            elif not path.isprintable():
                # Starlette's `$` also matches before a trailing newline, so `/predict\n` would bypass the key check.
                code = 404
                response = problems.answer(Problem("no-such-path", "a path of printable characters is needed"))
            elif (scope["method"], path) in self.table.open:
                try:
                    async with self._lane:
                        response = await _Framework(self._api, scope).answer(b"")
                except Exception as error:  # noqa: BLE001 - as for the protected routes
                    response = problems.answer(problems.of(error), path)
                route, code = _route(scope), response.status_code
            else:
                response = await self._protected(_Framework(self._api, scope), scope, receive, headers)
                route, code = _route(scope), response.status_code
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

    async def _protected(
        self, endpoint: Endpoint, scope: Scope, receive: Receive, headers: dict[bytes, bytes]
    ) -> Response:
        """The endpoint's answer, or the problem it ran into.

        A request is in hand once its body has arrived, so slow clients take nobody's place.
        """
        admission, path = self._admission, scope["path"]
        try:
            client = scope["client"]
            caller = self._keys.caller(headers, client[0] if client else "")
            if self._rate is not None:
                await self._rate.count(caller)
            body = await read_body(receive, headers, self._max_body)
            call = Call(path, scope["query_string"], headers, body, caller)
            if admission.in_flight >= admission.limit:  # those who waited before they were parsed don't wait again
                await admission.room()
            admission.enter()
            try:
                if b"idempotency-key" in headers:
                    return await self._once(endpoint, call)
                return await endpoint(call, self._serving)
            finally:
                admission.leave()
        except Exception as error:  # noqa: BLE001 - a bug is a 500, not the end of the connection
            return problems.answer(problems.of(error), path)

    async def _once(self, endpoint: Endpoint, call: Call) -> Response:
        """The endpoint's answer, or the one it gave to the same Idempotency-Key before."""
        asked = call.path + "?" + call.query.decode("latin-1")
        key = call.headers[b"idempotency-key"].decode("latin-1")
        name, kept = await self._replays.claim(call.caller, asked, key, call.body)
        if kept is not None:
            return kept
        try:
            response = await endpoint(call, self._serving)
        except Exception as error:  # noqa: BLE001 - it is kept, too
            response = problems.answer(problems.of(error), call.path)
        await self._replays.keep(name, call.body, response)
        return response


class _Framework:
    """An endpoint that lets FastAPI answer, from a body that has been read. The answer is gathered, not streamed."""

    def __init__(self, api: ASGIApp, scope: Scope) -> None:
        self._api, self._scope = api, scope

    async def __call__(self, call: Call, _: State) -> Response:
        return await self.answer(call.body)

    async def answer(self, body: bytes) -> Response:
        response = Response()
        parts: list[bytes] = []
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            return unread.pop() if unread else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                response.status_code, response.raw_headers = message["status"], list(message.get("headers", []))
            else:
                parts.append(message.get("body", b""))

        await self._api(self._scope, receive, send)
        response.body = b"".join(parts)
        return response


def _route(scope: Scope) -> str:
    """The path of the route that FastAPI found: one of few, whatever was asked for."""
    path: str = getattr(scope.get("route"), "path", "other")
    return path


def _identified(headers: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The headers by which a client recognises the answer. The log has their values from here on."""
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
