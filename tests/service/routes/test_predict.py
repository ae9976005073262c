"""POST /predict: three forms, one answer; and every refusal has a reason."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from model.canonical import canonical
from model.synthetic import draw
from tests.bundles import DIGITS, png

DRAWN = [
    png(np.rint(255 - 200 * draw(d, size=50, pen=0.1, canvas=(120, 90), at=(0.7, 0.4))).astype(np.uint8))
    for d in range(10)
]
BLANK = png(np.full((30, 30), 200, np.uint8))
NO_DIGIT = {"image": base64.b64encode(b"not an image").decode()}


def without_id(response):
    assert response.status_code == 200, response.text
    answer = response.json()
    assert len(answer.pop("prediction_id")) == 32
    return answer


@pytest.mark.parametrize("digit", range(10))
def test_a_drawn_digit_is_read_in_every_form_alike(http, digit):
    data = DRAWN[digit]
    raw = without_id(http.post("/predict", content=data, headers={"Content-Type": "image/png"}))
    assert raw["digit"] == digit
    assert raw["confidence"] == max(raw["probabilities"])
    assert sum(raw["probabilities"]) == pytest.approx(1, abs=1e-5)
    text = base64.b64encode(data).decode()
    for same in (
        http.post("/predict", content=data, headers={"Content-Type": "application/octet-stream"}),
        http.post("/predict", content=data),
        http.post("/predict", files={"image": ("d.png", data, "image/png")}),
        http.post("/predict", files={"file": ("d.png", data)}),
        http.post("/predict", json={"image": text}),
        http.post("/predict", json={"image": f"data:image/png;base64,{text}"}),
    ):
        assert without_id(same) == raw


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_every_format_is_read(client, kind):
    file = io.BytesIO()
    Image.open(io.BytesIO(DRAWN[7])).save(file, kind)
    assert (
        without_id(client.post("/predict", content=file.getvalue(), headers={"Content-Type": f"image/{kind.lower()}"}))[
            "digit"
        ]
        == 7
    )


def test_two_answers_have_two_ids_and_the_version_of_the_model(client):
    first, second = (client.post("/predict", content=DRAWN[1]).json() for _ in range(2))
    assert first["prediction_id"] != second["prediction_id"]
    assert first["model_version"] == client.get("/version").json()["version"]


def test_explain_shows_what_the_model_saw(client):
    answer = client.post("/predict?explain=true", content=DRAWN[3]).json()
    seen = Image.open(io.BytesIO(base64.b64decode(answer["seen"].removeprefix("data:image/png;base64,"))))
    assert np.array_equal(np.asarray(seen), canonical(Image.open(io.BytesIO(DRAWN[3]))))
    assert "seen" not in client.post("/predict", content=DRAWN[3]).json()


OTHER_FIELD = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="d"\r\n\r\nd\r\n--x--\r\n'
PNG = {"Content-Type": "image/png"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"", PNG, 400, "empty-body"),
        (b"not an image", PNG, 415, "not-an-image"),
        (png(DIGITS[0])[:80], PNG, 400, "broken-image"),
        (BLANK, PNG, 422, "no-ink"),
        (png(np.zeros((2000, 2000), np.uint8)), PNG, 413, "too-many-pixels"),
        (b"x" * 300_001, PNG, 413, "body-too-large"),
        (png(DIGITS[0]), {"Content-Type": "text/plain"}, 415, "unsupported-content-type"),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported-content-type"),
        (b"", JSON, 400, "malformed-json"),
        (b"{", JSON, 400, "malformed-json"),
        (b"\xff", JSON, 400, "malformed-json"),
        (b"[" * 4000, JSON, 400, "malformed-json"),
        (b"[" * 100_000, JSON, 413, "too-many-values"),
        (b"[]", JSON, 400, "missing-field"),
        (b'{"image": 7}', JSON, 400, "missing-field"),
        (b'{"image": ""}', JSON, 400, "empty-body"),
        (b'{"image": "%%%"}', JSON, 400, "malformed-base64"),
        (b'{"image": "bm90IGFuIGltYWdl"}', JSON, 415, "not-an-image"),
        (b"", FORM, 400, "malformed-multipart"),
        (b"nonsense", FORM, 400, "malformed-multipart"),
        (b"", {"Content-Type": "multipart/form-data"}, 400, "malformed-multipart"),
        (b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\ntext\r\n--x--\r\n', FORM, 400, "missing-field"),
        (OTHER_FIELD, FORM, 400, "missing-field"),
    ],
)  # fmt: skip
def test_predict_refuses_with_a_reason(client, body, headers, status, reason):
    response = client.post("/predict", content=body, headers=headers)
    problem = response.json()
    assert (response.status_code, problem["reason"]) == (status, reason), problem
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["detail"]


def test_a_body_without_a_length_is_cut_off_at_the_limit(http, client):
    def endless():
        for _ in range(100):
            yield b"x" * 10_000

    assert client.post("/predict", content=endless(), headers=PNG).json()["reason"] == "body-too-large"


def test_the_messages_have_both_numbers(client):
    said = client.post("/predict", content=png(np.zeros((2000, 2000), np.uint8))).json()["detail"]
    assert said == "2000x2000 is 4,000,000 pixels; at most 1,000,000 are decoded"


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/predict", 405, "method-not-allowed"),
        ("GET", "/nowhere", 404, "no-such-path"),
        ("POST", "/predict?explain=perhaps", 400, "bad-parameter"),
    ],
)
def test_the_frameworks_own_errors_are_problems_too(client, method, path, status, reason):
    response = client.request(method, path, content=DRAWN[0] if method == "POST" else None)
    assert (response.status_code, response.json()["reason"]) == (status, reason)
    assert response.headers["content-type"] == "application/problem+json"


def test_a_bug_is_a_500_that_shows_nothing(client, monkeypatch):
    monkeypatch.setattr("service.reader.canonical_batch", lambda _: 1 / 0)
    response = client.post("/predict", content=DRAWN[0])
    assert (response.status_code, response.json()["reason"]) == (500, "internal-error")
    assert "division" not in response.text
