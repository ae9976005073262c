"""The same Idempotency-Key gets the same answer: in memory, and in a real Redis for all replicas, which goes away."""

import asyncio

import pytest
from starlette.responses import Response

from service.edge.problems import Problem
from service.edge.replays import LARGEST, OVERHEAD, REMEMBERED, Memory, Replays
from tests.bundles import DIGITS, png
from tests.service.memory import grown
from tests.service.redis import undisturbed

PICTURE = png(DIGITS[5])


def post(client, path="/predict", content=PICTURE, **headers):
    return client.post(
        path, content=content, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


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
    monkeypatch.setattr("service.edge.replays.REMEMBERED", 2 * (OVERHEAD + 2) + 1)  # two keys with their values

    async def fill():
        memory = Memory()
        for key in "abc":
            await memory.put(key, key.encode(), 60, new=True)
        return [await memory.get(key) for key in "abc"]

    assert asyncio.run(fill()) == [None, b"b", b"c"]


def filled(requests, answer):
    """Replays that hold the answers of `answer` bytes to so many requests. None: they are being answered."""

    async def fill():
        replays = Replays("")
        for i in range(requests):
            claimed, _ = await replays.claim("", "/predict", f"key {i}", b"")
            if answer is not None:
                await replays.keep(claimed, b"", Response(bytes(answer)))
        return replays

    return asyncio.run(fill())


def claims():
    return filled(150_000, None)


def small_answers():
    return filled(150_000, 1)


def usual_answers():
    return filled(80_000, 300)


def large_answers():
    return filled(1500, LARGEST)


@pytest.mark.slow
@pytest.mark.parametrize("fill", [claims, small_answers, usual_answers, large_answers])
def test_it_takes_the_memory_it_says(fill):
    assert grown(fill) < 1.25 * REMEMBERED


def closing(service, key):
    """Over a connection of its own, so that any worker may answer."""
    return service.http.post("/predict", content=PICTURE, headers={"Connection": "close", "Idempotency-Key": key})


def test_a_replay_is_the_same_from_every_replica_and_worker(serve, redis):
    first, second = serve(redis=redis.url), serve(redis=redis.url, workers=2)
    services = (first, second, second, second, first)
    answers = undisturbed(services, lambda turn: [closing(service, f"shared {turn}") for service in services])
    assert {answer.content for answer in answers} == {answers[0].content}
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None] + ["true"] * 4


def test_while_redis_is_away_each_goes_on_alone(serve, redis):
    service = serve(redis=redis.url, rate_limit="1000/day")
    assert closing(service, "first").status_code == 200
    redis.kill()
    try:
        answers = [closing(service, "alone") for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.content for answer in answers} == {answers[0].content}
        assert any("Redis is away" in line for line in service.log)
    finally:
        redis.start()
