"""What clients do to a service, on purpose or not. None of it may be a 5xx, end it, or take its memory.

What abuse costs the others depends on the machine: `bench/abuse.py` measures that.
"""

import asyncio
import re
from pathlib import Path

import numpy as np
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench import load
from bench.bombs import BOMBS, saved
from model.synthetic import draw
from service.app import app
from tests.bundles import DIGITS, png
from tests.service.conftest import Service

PICTURE = png(DIGITS[3])


BROKEN = {
    f"{kind} {what}": data
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
    for whole in [saved(Image.fromarray(DIGITS[3]), kind)]
    for what, data in {
        "cut off": whole[: len(whole) // 2],
        "header alone": whole[:24],
        "zeroed": whole[:40] + bytes(len(whole) - 40),
        "with a tail": whole + b"\0" * 1000,
        "twice": whole + whole,
    }.items()
} | {
    "a page": b"<!doctype html><title>x</title>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "pdf": b"%PDF-1.7\n",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    "nothing in a png": b"\x89PNG\r\n\x1a\n",
    "one pixel": png(np.zeros((1, 1), np.uint8)),
    "a line": png(np.zeros((1, 5000), np.uint8)),
    "16 bits": saved(Image.fromarray(DIGITS[3].astype(np.uint16) * 257), "PNG"),
}


TYPES = ["image/png", "application/json", "multipart/form-data; boundary=x", "text/plain", "é", ""]


@pytest.fixture
def serve(serve):
    """Services as fast as they are, and as large."""
    return lambda **settings: serve(counted=False, **settings)


@pytest.fixture(scope="module")
def service(bundle_folder, tmp_path_factory):
    running = Service(bundle_folder, counted=False, journal=f"sqlite:///{tmp_path_factory.mktemp('abuse')}/journal.db")
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def resident(service):
    """Megabytes in use at most since it was last called."""
    status = Path(f"/proc/{service.process.pid}/status")

    def most():
        found = int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024
        status.with_name("clear_refs").write_text("5")  # forget the high-water mark
        return found

    return most


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_is_unpacked(http, resident, name):
    http.post("/predict", content=PICTURE)
    http.get("/livez")
    resident()
    before = resident()
    for _ in range(5):
        response = http.post("/predict", content=BOMBS[name])
        assert 400 <= response.status_code < 500, response.text
        assert response.json()["reason"] in ("too-many-pixels", "broken-image", "not-an-image", "no-ink")
    assert resident() - before < 20


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_the_clients_fault_or_none(client, name):
    response = client.post("/predict", content=BROKEN[name])
    assert response.status_code in (200, 400, 413, 415, 422), response.text


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=30),
    end=st.integers(0, 10**6),
)
def test_a_mutated_image_is_never_a_5xx(client, kind, changes, end):
    data = bytearray(saved(Image.fromarray(DIGITS[7]), kind))
    for place, value in changes:
        data[place % len(data)] = value
    response = client.post("/predict", content=bytes(data[: len(data) - end % 40]))
    assert response.status_code < 500, response.text


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=2000), path=st.sampled_from(sorted(app.table.direct)), kind=st.sampled_from(TYPES))
def test_any_bytes_are_never_a_5xx_but_without_a_journal(client, data, path, kind):
    response = client.post(path, content=data, headers={"Content-Type": kind.encode()})
    assert response.status_code < 500 or response.json()["reason"] == "no-journal", response.text


def test_schemathesis_finds_no_5xx(service):
    schema = schemathesis.openapi.from_url(f"{service.address}/openapi.json")

    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=40, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def one(case):
            response = case.call()
            assert response.status_code < 500, (case.operation.path, response.status_code, response.text)

        one()


def test_the_examples_of_the_documentation_work_as_they_are(http):
    paths = http.get("/openapi.json").json()["paths"]
    sent = 0
    for path, methods in paths.items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            example = content.get("example", content.get("schema", {}).get("example"))
            if example is not None:
                sent += 1
                response = http.request(method.upper(), path, json=example)
                assert response.status_code in (200, 201, 422), (path, response.text)
    assert sent >= 3


REQUESTS = [load.request("/predict", png(digit)) for digit in DIGITS]


def test_200_slow_sockets_are_cut_off_and_the_others_are_answered(serve):
    """Each sends a byte of its request every half second, until it is cut off."""
    service = serve(read_seconds=5)

    async def trickle():
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        answer = asyncio.create_task(reader.read(20))
        for byte in b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n":
            if answer.done():
                break
            writer.write(bytes([byte]))
            await asyncio.wait([answer], timeout=0.5)
        writer.close()
        return await answer

    async def beside():
        slow = [asyncio.create_task(trickle()) for _ in range(200)]
        seen = await load.run(service.port, REQUESTS, 8, count=2000)
        return seen, await asyncio.gather(*slow)

    seen, said = asyncio.run(beside())
    assert seen.codes == {200: 2000}
    assert set(said) == {b"HTTP/1.1 408 Request"}
    assert service.metric('neocog_rejected_total{reason="too-slow"}') == 200


def test_100_000_requests_of_all_kinds_grow_it_by_little(serve, tmp_path):
    service = serve(journal=f"sqlite:///{tmp_path}/journal.db")
    drawn = (np.rint(255 * draw(digit, size=60, pen=0.1, canvas=(90, 90))).astype(np.uint8) for digit in range(10))
    bodies = [*map(png, DIGITS), b"no image", *BROKEN.values(), *map(png, drawn)]
    requests = [load.request("/predict", body) for body in bodies]
    requests.append(load.request("/predict/batch", b'{"images": ["%"]}', "application/json"))
    requests.append(load.request("/feedback", b'{"label": 11}', "application/json"))
    requests.append(load.request("/nowhere", b""))
    process = psutil.Process(service.process.pid)
    asyncio.run(load.run(service.port, requests, 32, count=20_000))  # warm: what is loaded once, every size of buffer
    before = process.memory_info().rss
    for answered in range(20_000, 100_001, 20_000):
        seen = asyncio.run(load.run(service.port, requests, 32, count=20_000))
        assert not [code for code in seen.codes if code >= 500]
        assert seen.codes.total() == 20_000
        print(f"{answered:,} requests: {(process.memory_info().rss - before) / 2**20:.1f} MiB more")
    grown = (process.memory_info().rss - before) / 2**20
    print(f"{before / 2**20:.0f} MiB at first")
    assert grown < 10
