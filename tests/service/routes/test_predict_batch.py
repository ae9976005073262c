"""POST /predict/batch: many pictures, each with its own answer."""

import base64

import numpy as np
import pytest

from tests.bundles import DIGITS, png

FILES = [png(digit) for digit in DIGITS]
TEXTS = [base64.b64encode(data).decode() for data in FILES]


def digits(response):
    assert response.status_code == 200, response.text
    return [entry.get("digit", entry.get("reason")) for entry in response.json()["predictions"]]


def test_json_and_form_are_answered_in_order(client):
    assert digits(client.post("/predict/batch", json={"images": TEXTS})) == list(range(10))
    files = [("image", ("d.png", data)) for data in FILES[::-1]]
    assert digits(client.post("/predict/batch", files=files)) == list(range(9, -1, -1))


def test_one_that_is_bad_spoils_no_other(client):
    blank = base64.b64encode(png(np.full((30, 30), 9, np.uint8))).decode()
    sent = [TEXTS[3], blank, base64.b64encode(b"no image").decode(), TEXTS[4]]
    response = client.post("/predict/batch", json={"images": sent})
    assert digits(response) == [3, "no-ink", "not-an-image", 4]
    assert response.json()["predictions"][1]["status"] == 422


def test_an_answer_is_the_same_alone_and_among_others(client):
    alone = [client.post("/predict", content=data).json() for data in FILES]
    together = client.post("/predict/batch", json={"images": TEXTS * 7}).json()["predictions"]
    for i, entry in enumerate(together):
        assert entry["digit"] == alone[i % 10]["digit"]
        assert entry["probabilities"] == pytest.approx(alone[i % 10]["probabilities"], abs=1e-6)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"images": []}, 400, "missing-field"),
        ({"images": [7]}, 400, "missing-field"),
        ({"image": TEXTS[0]}, 400, "missing-field"),
        ({"images": ["%"]}, 400, "malformed-base64"),
        ({"images": TEXTS[:1] * 257}, 413, "too-many-images"),
    ],
)
def test_batch_refuses_with_a_reason(client, body, status, reason):
    response = client.post("/predict/batch", json=body)
    assert (response.status_code, response.json()["reason"]) == (status, reason)


def test_small_files_with_very_many_pixels_are_counted_together(client):
    large = base64.b64encode(png(np.zeros((900, 900), np.uint8))).decode()
    response = client.post("/predict/batch", json={"images": [large] * 2})
    assert (response.status_code, response.json()["reason"]) == (413, "too-many-pixels")


def test_a_raw_body_holds_no_batch(client):
    response = client.post("/predict/batch", content=FILES[0], headers={"Content-Type": "image/png"})
    assert (response.status_code, response.json()["reason"]) == (415, "unsupported-content-type")
