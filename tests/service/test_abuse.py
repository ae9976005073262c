"""What clients do to a service, on purpose or not. None of it may be a 5xx, end it, or slow the others much."""

import asyncio
import io
import re
import struct
import threading
import time
import zlib
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from model.synthetic import draw
from service.front import DIRECT
from tests.bundles import DIGITS, png
from tests.service import load
from tests.service.conftest import Service

PICTURE = png(DIGITS[3])


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def claiming(width, height, data=b"", *between):
    """A PNG whose header claims so many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(between) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


WHITE = Image.new("RGB", (64, 64), "white")
ZEROS = zlib.compress(bytes(50_000_000), 9)
# Headers of formats that a few bytes suffice for.
BMP = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 10**9, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
GIF = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\2\1\0\0;"
WEBP = b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<IB", 10, 0) + b"\0\0\0" + b"\xfe\x3f\0" * 2
WIDTH, WIDER = struct.pack("<HHIHH", 256, 4, 1, 64, 0), struct.pack("<HHII", 256, 4, 1, 60000)
BOMBS = {
    "png of 65535x65535": claiming(65535, 65535, ZEROS),
    "png of 2^31-1 by 2^31-1": claiming(2**31 - 1, 2**31 - 1),
    "png with 50 MB of text": claiming(8, 8, b"", chunk(b"zTXt", b"Comment\0\0" + ZEROS)),
    "png with 50 MB of profile": claiming(8, 8, b"", chunk(b"iCCP", b"icc\0\0" + ZEROS)),
    "png with 50 MB of international text": claiming(8, 8, b"", chunk(b"iTXt", b"k\0\1\0\0\0" + ZEROS)),
    "png with 60 comments of 1 MB": claiming(
        8, 8, b"", *[chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_000_000), 9))] * 60
    ),
    "bmp of 60000x60000": BMP,
    "gif of 65535x65535": GIF,
    "tiff 60000 wide": saved(WHITE, "TIFF").replace(WIDTH, WIDER),
    "webp of 16383x16383": WEBP,
    "jpeg of 65500x65500": saved(WHITE, "JPEG").replace(b"\x00\x40\x00\x40", b"\xff\xdc\xff\xdc", 1),
}
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
def test_a_bomb_is_refused_quickly_and_takes_no_memory(http, resident, name):
    http.post("/predict", content=PICTURE)
    http.get("/livez")
    resident()
    before, took = resident(), []
    for _ in range(5):
        begun = time.perf_counter()
        response = http.post("/predict", content=BOMBS[name])
        took.append(time.perf_counter() - begun)
        assert 400 <= response.status_code < 500, response.text
        assert response.json()["reason"] in ("too-many-pixels", "broken-image", "not-an-image", "no-ink")
    assert min(took) < 0.05
    assert resident() - before < 20


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_the_clients_fault_or_none(client, name):
    response = client.post("/predict", content=BROKEN[name])
    assert response.status_code in (200, 400, 413, 415, 422), response.text


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
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


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=2000), path=st.sampled_from(sorted(DIRECT)), kind=st.sampled_from(TYPES))
def test_any_bytes_are_never_a_5xx_but_without_a_journal(client, data, path, kind):
    response = client.post(path, content=data, headers={"Content-Type": kind.encode()})
    assert response.status_code < 500 or response.json()["reason"] == "no-journal", response.text


def test_schemathesis_finds_no_5xx(service):
    schema = schemathesis.openapi.from_url(f"{service.address}/openapi.json")

    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
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


def probe(service):
    """Asks /livez every 50 ms; gives the codes once it is called."""
    codes, over = [], threading.Event()

    def ask():
        with httpx2.Client(base_url=service.address, timeout=10) as client:
            while not over.is_set():
                codes.append(client.get("/livez").status_code)
                time.sleep(0.05)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()

    def end():
        over.set()
        asking.join()
        return codes

    return end


def test_under_three_times_the_load_goodput_stays(serve, tmp_path):
    """An open loop: what is due is sent, whether the service keeps up or not."""
    service = serve(journal=f"sqlite:///{tmp_path}/journal.db")
    probed = probe(service)
    kept = []
    for _ in range(3):  # the best of three: other tests share these cores
        peak = asyncio.run(load.run(service.port, REQUESTS, 64, 3, None)).codes[200] / 3
        seen = asyncio.run(load.run(service.port, REQUESTS, 1000, 3, 3 * peak))
        kept.append(seen.codes[200] / 3 / peak)
        print(f"peak {peak:.0f}/s; at three times that {kept[-1]:.0%} of it, {dict(seen.codes)}")
        assert set(seen.codes) == {200, 503}
        assert seen.lost == 0
        if kept[-1] >= 0.9:
            break
    assert max(kept) >= 0.9
    codes = probed()
    assert len(codes) > 20
    assert set(codes) == {200}


def test_200_slow_sockets_leave_the_others_alone(serve):
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

    async def p99():
        seen = await load.run(service.port, REQUESTS, 8, 2, None)
        assert set(seen.codes) == {200}
        return float(np.percentile(seen.took, 99))

    async def once():
        alone = await p99()
        slow = [asyncio.create_task(trickle()) for _ in range(200)]
        await asyncio.sleep(0.5)
        beside = await p99()
        print(f"p99 alone {alone * 1e3:.1f} ms, beside 200 slow sockets {beside * 1e3:.1f} ms")
        return beside / alone, await asyncio.gather(*slow)

    ratios = []
    for turn in range(1, 4):
        ratio, said = asyncio.run(once())
        ratios.append(ratio)
        assert set(said) == {b"HTTP/1.1 408 Request"}
        assert service.metric('neocog_rejected_total{reason="too-slow"}') == 200 * turn
        if ratio < 2:
            break
    assert min(ratios) < 2


def test_100_000_requests_of_all_kinds_grow_it_by_little(serve, tmp_path):
    service = serve(journal=f"sqlite:///{tmp_path}/journal.db")
    drawn = (np.rint(255 * draw(digit, size=60, pen=0.1, canvas=(90, 90))).astype(np.uint8) for digit in range(10))
    bodies = [*map(png, DIGITS), b"no image", *BROKEN.values(), *map(png, drawn)]
    requests = [load.request("/predict", body) for body in bodies]
    requests.append(load.request("/predict/batch", b'{"images": ["%"]}', "application/json"))
    requests.append(load.request("/feedback", b'{"label": 11}', "application/json"))
    requests.append(load.request("/nowhere", b""))
    process = psutil.Process(service.process.pid)
    answered, begun = 0, time.monotonic()
    asyncio.run(load.run(service.port, requests, 32, 10, None))  # warm: what is loaded once, and every size of buffer
    before = process.memory_info().rss
    while answered < 100_000:
        seen = asyncio.run(load.run(service.port, requests, 32, 5, None))
        assert not [code for code in seen.codes if code >= 500]
        answered += seen.codes.total()
        print(f"{answered:,} requests: {(process.memory_info().rss - before) / 2**20:.1f} MiB more")
        assert time.monotonic() - begun < 600
    grown = (process.memory_info().rss - before) / 2**20
    print(f"{before / 2**20:.0f} MiB at first")
    assert grown < 10
