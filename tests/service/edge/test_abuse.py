"""What clients do to a service, on purpose or not. None of it may be a 5xx, end it, or take its memory.

What abuse costs the others depends on the machine: `bench/abuse.py` measures that.
"""

import asyncio
import contextlib
import re
import signal
import threading
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench import load
from bench.bombs import BOMBS, COSTLY, checkerboard, endless_jpeg, saved
from model.synthetic import draw
from service.app import app
from tests.bundles import DIGITS, png
from tests.service.conftest import Service
from tests.waiting import until

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


ENDLESS = endless_jpeg(8_000_000)  # minutes; a decoder gives up after 2 seconds


def decoders(process):
    """The decoders of a service that live."""
    living = []
    for child in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error):
            if "service.decoding.child" in child.cmdline():
                living.append(child)
    return living


def working(children):
    """Waits until each of them has used its processor, or was replaced since it had used up its time."""
    used = {child.pid: sum(child.cpu_times()[:2]) for child in children}

    def has_worked(child):
        try:
            return sum(child.cpu_times()[:2]) > used[child.pid] + 0.1
        except psutil.NoSuchProcess:
            return True

    until(lambda: all(has_worked(child) for child in children))


class Asking:
    """Requests that wait for an answer, each in a thread of its own."""

    def __init__(self, service, path, bodies, headers=None):
        self.answers = []
        self._threads = [
            threading.Thread(target=self._ask, args=(service.address + path, body, headers), daemon=True)
            for body in bodies
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, url, body, headers):
        with contextlib.suppress(httpx2.TransportError):  # the service has ended
            self.answers.append(httpx2.post(url, content=body, headers=headers, timeout=600))

    @property
    def done(self):
        return not any(thread.is_alive() for thread in self._threads)

    def wait(self):
        for thread in self._threads:
            thread.join(600)
        return self.answers


@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_picture_takes_no_memory_of_the_service(http, resident, name):
    """How much a decoder takes is tested in tests/service/decoding."""
    http.post("/predict", content=COSTLY[name])
    resident()
    before = resident()
    for _ in range(3):
        response = http.post("/predict", content=COSTLY[name])
        assert response.json()["reason"] in ("too-costly", "too-many-pixels", "broken-image", "no-ink"), response.text
    assert resident() - before < 20


def test_while_pictures_hold_the_decoders_everybody_else_is_answered(service, http):
    series = 'neocog_decoders_replaced_total{reason="too-slow"}'
    before = service.metric(series)
    asking = Asking(service, "/predict", [ENDLESS] * 4)
    working(decoders(service.process))
    for _ in range(20):
        assert http.get("/livez").status_code == 200
        assert http.post("/predict", content=PICTURE).json()["digit"] == 3
    assert not asking.done
    assert {answer.json()["reason"] for answer in asking.wait()} == {"too-costly"}
    assert http.post("/predict", content=saved(Image.fromarray(DIGITS[4]), "BMP")).json()["digit"] == 4
    assert service.metric(series) == before + 4


@pytest.mark.parametrize(
    "pictures",
    [[checkerboard(316)] * 248, [endless_jpeg(2_000_000)] * 4],
    ids=["checkerboards", "endless"],
)
def test_while_a_batch_is_read_the_others_get_their_turns(service, http, pictures):
    """In the event loop, it would let a few digits pass in all."""
    form = httpx2.Request("POST", "http://x", files=[("image", ("d", data)) for data in pictures])
    asking = Asking(service, "/predict/batch", [form.read()], {"Content-Type": form.headers["content-type"]})
    until(lambda: service.metric("neocog_in_flight") == 1)
    answered = 0
    while not asking.done:
        assert http.post("/predict", content=PICTURE).json()["digit"] == 3
        answered += 1
    (answer,) = asking.wait()
    assert {entry["reason"] for entry in answer.json()["predictions"]} <= {"no-ink", "too-costly"}
    assert answered > 50


@pytest.mark.parametrize("stopped", [False, True])
def test_it_ends_in_time_whatever_is_being_decoded(serve, stopped):
    service = serve(grace_seconds=4)
    children = started(service)
    if stopped:
        for child in children:
            child.suspend()
    asking = Asking(service, "/predict", [ENDLESS] * 4)
    until(lambda: service.metric("neocog_in_flight") == 4)
    if not stopped:
        working(children)
    assert service.stop(within=50) == 0  # a stopped decoder would hang for longer, and nobody waits for an endless one
    asking.wait()
    assert not [child for child in children if child.is_running()]


def started(service):
    """Its decoders, once each of them has started."""
    http = service.http
    asked = saved(Image.fromarray(DIGITS[4]), "BMP")
    until(lambda: http.post("/predict", content=asked).status_code == 200 and len(decoders(service.process)) == 2)
    return decoders(service.process)


def test_a_service_that_is_killed_leaves_no_decoder_behind(serve):
    service = serve()
    children = started(service)
    asking = Asking(service, "/predict", [ENDLESS] * 2)
    working(children)
    service.stop(signal.SIGKILL)
    asking.wait()
    until(lambda: not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE])


def test_decoders_that_are_killed_are_replaced(serve):
    service = serve()
    asked = saved(Image.fromarray(DIGITS[4]), "BMP")
    for child in started(service):
        child.kill()
    until(lambda: read(service, asked) == 4)
    assert service.metric('neocog_decoders_replaced_total{reason="died"}') >= 1
    asking = Asking(service, "/predict", [ENDLESS])
    children = started(service)
    until(lambda: service.metric("neocog_in_flight") == 1)
    for child in children:
        child.kill()
    assert {answer.json()["reason"] for answer in asking.wait()} <= {"too-costly"}
    until(lambda: read(service, asked) == 4)


def read(service, picture):
    """The digit, or None while no decoder has started again."""
    answer = service.http.post("/predict", content=picture)
    assert answer.status_code in (200, 503), answer.text
    return answer.json().get("digit")


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
