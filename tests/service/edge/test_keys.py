"""API keys: who may ask."""

import hashlib

import pytest

from service.app import app
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
