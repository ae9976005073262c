"""Who may ask, how often, and once only: in memory here, with a real Redis in test_redis.py."""

import asyncio
import hashlib

import pytest

from service.app import app
from service.edge.problems import Problem
from service.edge.replays import Memory, Replays
from tests.bundles import DIGITS, png
from tests.service.conftest import in_process

KEYS = ["first key", "second key"]
DIGESTS = ",".join(hashlib.sha256(key.encode()).hexdigest() for key in KEYS)
PICTURE = png(DIGITS[5])


def post(client, path="/predict", content=PICTURE, **headers):
    return client.post(
        path, content=content, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def test_without_keys_anybody_may_ask(client):
    assert post(client).status_code == 200


def test_with_keys_only_those_who_have_one(bundle_folder):
    with in_process(bundle_folder, api_keys=DIGESTS) as client:
        for refused in (post(client), post(client, X_API_Key="third"), post(client, Authorization="Bearer ")):
            assert (refused.status_code, refused.json()["reason"]) == (401, "unauthorized")
        assert post(client, X_API_Key=KEYS[0]).status_code == 200
        assert post(client, Authorization=f"Bearer {KEYS[1]}").status_code == 200
        for probe in ("/livez", "/readyz", "/metrics", "/version", "/docs", "/"):
            assert client.get(probe).status_code == 200


@pytest.mark.parametrize("path", sorted(app.table.direct))
@pytest.mark.parametrize("end", ["%0A", "%0D", "/", "%00", "//", ";x"])
def test_no_other_spelling_of_a_path_gets_past_the_keys(bundle_folder, path, end):
    with in_process(bundle_folder, api_keys=DIGESTS) as client:
        assert client.post(path + end, content=PICTURE).status_code in (401, 404)


def test_a_rate_is_each_callers_own(bundle_folder):
    with in_process(bundle_folder, api_keys=DIGESTS, rate_limit="3/day") as client:
        codes = [post(client, X_API_Key=KEYS[0]).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        refused = post(client, X_API_Key=KEYS[0])
        assert refused.json()["reason"] == "rate-limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 2 * 86_400
        assert post(client, X_API_Key=KEYS[1]).status_code == 200
        assert client.get("/livez").status_code == 200


def test_the_same_key_gets_the_same_answer(client):
    first, second, other = (post(client, Idempotency_Key=key) for key in ("one", "one", "another"))
    assert first.content == second.content != other.content
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert first.headers["content-type"] == second.headers["content-type"]


def test_an_error_that_is_the_requests_own_is_answered_again(client):
    first, second = (post(client, content=b"no image", Idempotency_Key="bad") for _ in range(2))
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert second.headers["idempotent-replayed"] == "true"


def test_a_key_is_for_one_request(client):
    post(client, Idempotency_Key="mine")
    refused = post(client, content=png(DIGITS[6]), Idempotency_Key="mine")
    assert (refused.status_code, refused.json()["reason"]) == (422, "idempotency-key-reused")
    assert post(client, path="/predict?explain=true", Idempotency_Key="mine").status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_a_length(client, key):
    refused = post(client, Idempotency_Key=key)
    assert (refused.status_code, refused.json()["reason"]) == (400, "bad-parameter")


def test_one_that_is_being_answered_is_not_carried_out_twice():
    async def twice():
        replays = Replays("")
        await replays.claim("", "/predict", "key", b"body")
        await replays.claim("", "/predict", "key", b"body")

    with pytest.raises(Problem) as refused:
        asyncio.run(twice())
    assert (refused.value.status, refused.value.reason) == (409, "in-progress")


def test_an_answer_that_would_fill_the_memory_is_not_kept(client, monkeypatch):
    monkeypatch.setattr("service.edge.replays.LARGEST", 100)
    first, second = (post(client, Idempotency_Key="large") for _ in range(2))
    assert first.json()["prediction_id"] != second.json()["prediction_id"]


def test_memory_forgets_the_oldest(monkeypatch):
    monkeypatch.setattr("service.edge.replays.REMEMBERED", 5)  # bytes: two keys and their values, and one more

    async def fill():
        memory = Memory()
        for key in "abc":
            await memory.put(key, key.encode(), 60, new=True)
        return [await memory.get(key) for key in "abc"]

    assert asyncio.run(fill()) == [None, b"b", b"c"]
