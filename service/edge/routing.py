"""The one table of routes. Every other list of paths is made from it, or tested against it.

A route is protected unless it says otherwise: `Front` checks API key, rate and room before every route that is not
marked with `open_to_all`. A route made with `direct` is protected, too, and `Front` calls its function itself: what
FastAPI does around a function (dependencies, validation, middleware) takes longer than the function.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeVar

from fastapi import APIRouter
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from service.edge.calls import Call
from service.state import State

Endpoint = Callable[[Call, State], Awaitable[Response]]
_Function = TypeVar("_Function", bound=Callable[..., Any])

_DIRECT: Final = "neocog_endpoint"  # attributes of a route's function
_OPEN: Final = "neocog_open_to_all"


def direct(router: APIRouter, path: str, **documented: Any) -> Callable[[Endpoint], Endpoint]:
    """Makes a function of the form (Call, State) -> Response the answer to POST `path`.

    `documented` goes to FastAPI, which describes the route and never calls it.
    """

    def register(endpoint: Endpoint) -> Endpoint:
        async def described() -> None:
            raise RuntimeError(f"POST {path} came past service.edge.front")

        described.__name__, described.__doc__ = getattr(endpoint, "__name__", path), endpoint.__doc__
        setattr(described, _DIRECT, endpoint)
        router.add_api_route(path, described, methods=["POST"], **documented)
        return endpoint

    return register


def open_to_all(function: _Function) -> _Function:
    """Marks a route's function: it answers anybody, at any time. For probes, the page and the documentation."""
    setattr(function, _OPEN, True)
    return function


class Table:
    """The routes of an application. Whatever is not in it is protected, too: FastAPI then answers 404 or 405."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        known = [route for route in routes if isinstance(route, Route)]
        self.paths: Final = {(method, route.path) for route in known for method in route.methods or ()}
        endpoints = [(route.path, getattr(route.endpoint, _DIRECT, None)) for route in known]
        self.direct: Final[dict[str, Endpoint]] = {path: found for path, found in endpoints if found}
        opened = [route for route in known if getattr(route.endpoint, _OPEN, False)]
        self.open: Final = {(method, route.path) for route in opened for method in route.methods or ()}
        if variable := [route.path for route in opened if "{" in route.path]:
            raise ValueError(f"a route that is open to all has a fixed path: {variable[0]}")
