"""Rate limits: each caller's own, in memory and in a real Redis for all replicas."""

import hashlib

from tests.bundles import DIGITS, png
from tests.service.conftest import Service, in_process
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
