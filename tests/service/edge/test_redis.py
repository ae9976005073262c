"""Limits and replays that replicas share through a real Redis, which also goes away."""

import hashlib
import shutil
import socket
import subprocess
import time

import pytest

from service.edge.absence import AWAY
from tests.bundles import DIGITS, png
from tests.service.conftest import Service

PICTURE = png(DIGITS[5])


class Redis:
    """A server of its own; killed and started again for real."""

    def __init__(self):
        if shutil.which("redis-server") is None:
            pytest.skip("needs redis-server: apt-get install redis-server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(1200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        pytest.fail("Redis did not start")

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def redis():
    server = Redis()
    yield server
    server.kill()


def post(service, key=None):
    return service.http.post(
        "/predict", content=PICTURE, headers={"Connection": "close"} | ({"Idempotency-Key": key} if key else {})
    )


def undisturbed(services, ask):
    """What `ask` gives, asked again where a busy machine kept a service waiting for Redis for longer than it does."""
    for turn in range(20):
        answers = ask(turn)
        if not any("Redis is away" in line for service in services for line in service.log):
            return answers
        for service in services:
            service.log.clear()
        time.sleep(AWAY)
    pytest.fail("Redis never answered in time")


def test_a_replay_is_the_same_from_every_replica_and_worker(serve, redis):
    first, second = serve(redis=redis.url), serve(redis=redis.url, workers=2)
    services = (first, second, second, second, first)
    answers = undisturbed(services, lambda turn: [post(service, f"shared {turn}") for service in services])
    assert {answer.content for answer in answers} == {answers[0].content}
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None] + ["true"] * 4


def test_a_rate_is_counted_over_all_replicas(bundle_folder, redis):
    keys = [f"key {turn}" for turn in range(20)]  # another caller each time
    digests = ",".join(hashlib.sha256(key.encode()).hexdigest() for key in keys)
    replicas = [Service(bundle_folder, redis=redis.url, rate_limit="6/day", api_keys=digests) for _ in range(2)]
    headers = lambda turn: {"X-API-Key": keys[turn]}  # noqa: E731
    ask = lambda turn: [  # noqa: E731
        replicas[i % 2].http.post("/predict", content=PICTURE, headers=headers(turn)).status_code for i in range(8)
    ]
    assert undisturbed(replicas, ask) == [200] * 6 + [429] * 2
    for replica in replicas:
        replica.stop()


def test_while_redis_is_away_each_goes_on_alone(serve, redis):
    service = serve(redis=redis.url, rate_limit="1000/day")
    assert post(service).status_code == 200
    redis.kill()
    try:
        answers = [post(service, "alone") for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.content for answer in answers} == {answers[0].content}
        assert any("Redis is away" in line for line in service.log)
    finally:
        redis.start()
