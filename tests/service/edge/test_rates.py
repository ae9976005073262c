"""Rate limits: each caller's own, in memory and in a real Redis for all replicas."""

import asyncio
import hashlib

import pytest
from limits import parse

from service.edge.problems import Problem
from service.edge.rates import CALLERS, Memory, Rate, name
from tests.bundles import DIGITS, png
from tests.service.conftest import Service, in_process
from tests.service.memory import grown
from tests.service.redis import undisturbed

KEYS = ["first key", "second key"]
DIGESTS = ",".join(hashlib.sha256(key.encode()).hexdigest() for key in KEYS)
PICTURE = png(DIGITS[5])


def post(client, key):
    return client.post("/predict", content=PICTURE, headers={"X-API-Key": key})


def test_a_rate_is_each_callers_own(bundle_folder):
    with in_process(bundle_folder, api_keys=DIGESTS, rate_limit="3/day") as client:
        codes = [post(client, KEYS[0]).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        refused = post(client, KEYS[0])
        assert refused.json()["reason"] == "rate-limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 2 * 86_400
        assert post(client, KEYS[1]).status_code == 200
        assert client.get("/livez").status_code == 200


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


def test_a_window_slides():
    memory = Memory(parse("4/minute"))
    assert [memory.hit("a", 60.0) for _ in range(4)] == [None] * 4
    assert memory.hit("a", 75.0) == 45.0  # the window is full until it ends
    assert memory.hit("b", 75.0) is None
    # Half of the window before still counts, which is 2.
    assert [memory.hit("a", 150.0) for _ in range(3)] == [None, None, 0.0]
    assert memory.hit("a", 151.0) is None
    assert memory.hit("a", 152.0) == 13.0  # then a quarter of it counts
    assert memory.hit("a", 165.5) is None
    assert [memory.hit("a", 10_000.0) for _ in range(4)] == [None] * 4  # long after, nothing counts


def test_after_the_time_it_names_one_more_is_within_the_limit():
    memory, now = Memory(parse("7/hour")), 1000.0
    for _ in range(200):
        wait = memory.hit("a", now)
        if wait is not None:
            assert memory.hit("a", now + 0.99 * wait - 0.01) is not None
            now += wait + 0.01
            assert memory.hit("a", now) is None
        now += 100.0


def fill_rates():
    rate = Rate("10/day", "")

    async def fill():
        for i in range(300_000):
            await rate.count(f"2001:db8:{i >> 16:x}:{i & 0xFFFF:x}::1" if i % 2 else f"{i:0>64}")

    asyncio.run(fill())
    assert len(rate._here._windows) == CALLERS
    return rate


def test_callers_without_number_take_a_bounded_memory():
    assert grown(fill_rates) < 32_000_000


def test_an_ipv6_network_is_one_caller():
    rate, refused = Rate("3/day", ""), []

    async def ask(*callers):
        for caller in callers:
            try:
                await rate.count(caller)
            except Problem:
                refused.append(caller)

    asyncio.run(ask(*(f"2001:db8:0:7::{i:x}" for i in range(5)), "2001:db8:0:8::1", "192.0.2.1", "::ffff:192.0.2.2"))
    assert refused == ["2001:db8:0:7::3", "2001:db8:0:7::4"]


@pytest.mark.parametrize(
    ("caller", "counted"),
    [
        ("", ""),
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),  # the same client, through a socket for both
        ("2001:db8::1", "20010db800000000"),
        ("fe80::1%eth0", "fe80000000000000"),
        ("unix:", "unix:"),
        ("x" * 60_000, hashlib.sha256(b"x" * 60_000).hexdigest()),  # from X-Forwarded-For
    ],
)
def test_a_callers_name_is_short(caller, counted):
    assert name(caller) == counted


@pytest.mark.parametrize("trusted", ["", "127.0.0.1"])
def test_only_a_proxy_that_is_named_says_whom_a_request_is_from(serve, trusted):
    service = serve(rate_limit="1/day", trusted_proxies=trusted)
    codes = [
        service.http.post("/predict", content=PICTURE, headers={"X-Forwarded-For": f"203.0.113.{i}"}).status_code
        for i in range(3)
    ]
    assert codes == ([200, 200, 200] if trusted else [200, 429, 429])
