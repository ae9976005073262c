"""One table of routes: what is protected, and what every other list of paths is made from."""

import hashlib

import pytest
from fastapi import APIRouter
from starlette.responses import Response

from service import app as application
from service.edge.routing import Table, direct, open_to_all
from tests.bundles import DIGITS, png
from tests.service.conftest import in_process

PICTURE = png(DIGITS[3])
KEY = "a key"
SETTINGS = {"api_keys": hashlib.sha256(KEY.encode()).hexdigest(), "rate_limit": "3/day", "max_body_bytes": 10_000}


@pytest.fixture
def added(bundle_folder, monkeypatch):
    """A client of an application with routes that a stranger adds in the three ways there are."""
    router = APIRouter()

    @router.post("/plain")
    @router.get("/plain/{name}")
    async def plain(name: str = "nobody") -> dict[str, str]:
        return {"name": name}

    @direct(router, "/fast")
    async def fast(call, serving):
        return Response(call.body)

    @router.get("/open")
    @open_to_all
    async def opened() -> str:
        return "open"

    monkeypatch.setattr(application, "ROUTERS", (*application.ROUTERS, router))
    with in_process(bundle_folder, **SETTINGS) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), [("POST", "/plain"), ("GET", "/plain/x"), ("POST", "/fast")])
def test_a_route_that_is_added_is_protected(added, method, path):
    with_key = {"X-API-Key": KEY}
    refused = added.request(method, path)
    assert (refused.status_code, refused.json()["reason"]) == (401, "unauthorized")
    too_large = added.request(method, path, headers=with_key, content=bytes(10_001))
    assert (too_large.status_code, too_large.json()["reason"]) == (413, "body-too-large")
    codes = [added.request(method, path, headers=with_key).status_code for _ in range(3)]
    assert codes == [200, 200, 429]  # the large one counted, too


def test_a_plain_route_gets_idempotent_replay_and_its_parameters(added):
    headers = {"X-API-Key": KEY, "Idempotency-Key": "one"}
    first, second = (added.post("/plain?name=me", headers=headers) for _ in range(2))
    assert first.json() == second.json() == {"name": "me"}
    assert second.headers["idempotent-replayed"] == "true"


def test_a_route_is_open_only_where_it_says_so(added):
    assert added.get("/open").json() == "open"
    for path in ("/livez", "/readyz", "/version", "/metrics", "/docs", "/openapi.json", "/", "/v2/health/live"):
        assert added.get(path).status_code == 200
    assert added.post("/open").status_code == 401
    assert added.get("/nowhere").status_code == 401


def test_what_is_not_there_is_said_to_those_who_may_ask(client):
    assert client.get("/nowhere").json()["reason"] == "no-such-path"
    assert client.get("/predict").json()["reason"] == "method-not-allowed"


def test_an_open_route_has_a_fixed_path():
    router = APIRouter()

    @router.get("/files/{name}")
    @open_to_all
    async def files(name: str) -> str:
        return name

    with pytest.raises(ValueError, match=r"a route that is open to all has a fixed path: /files/\{name\}"):
        Table(router.routes)


def test_the_table_has_every_route_of_openapi(client):
    table = application.app.table
    documented = client.get("/openapi.json").json()["paths"]
    assert {(m.upper(), p) for p, methods in documented.items() for m in methods} <= table.paths
    assert set(table.direct) == {"/predict", "/predict/batch", "/feedback", "/label", "/v2/models/digits/infer"}
    assert {path for _, path in table.open} >= {"/livez", "/readyz", "/version", "/metrics", "/docs", "/"}
