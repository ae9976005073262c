"""What a client may do with a connection, on purpose or not. Each test makes its attack on a real process."""

import asyncio
import contextlib
import json
import re
import select
import socket
import threading
import time
from pathlib import Path

import httpx2
import pytest

from bench import load
from tests.bundles import DIGITS, png
from tests.service.edge.test_server import Long, raw
from tests.waiting import until

PICTURE = png(DIGITS[3])
REQUESTS = [load.request("/predict", png(digit)) for digit in DIGITS]
ASKED = REQUESTS[3]
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


def said(connection):
    """All that comes until the service closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    connection.close()
    return b"".join(parts)


def answers(data):
    """The status and the body of each answer in `data`."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        found.append((int(head[9:12]), data[:length]))
        data = data[length:]
    return found


def memory(service):
    """Resident megabytes, at most, since the service began."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{service.process.pid}/status").read_text())[1]) / 1024


@pytest.fixture
def serve(serve):
    """Services without the measurement of coverage, which makes memory grow."""
    return lambda **settings: serve(counted=False, **settings)


# One request at a time


@pytest.mark.parametrize("cut", [1, 7, 100, 100_000])
def test_pipelined_requests_are_answered_in_turn(serve, cut):
    service = serve()
    sent = (
        b"".join(load.request("/predict", png(digit)) for digit in DIGITS)
        + b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n"
    )
    connection = raw(service)
    for at in range(0, len(sent), cut):
        connection.sendall(sent[at : at + cut])
    *predictions, last = answers(said(connection))
    assert [json.loads(body)["digit"] for _, body in predictions] == list(range(10))
    assert last == (200, b"ok\n")


def test_requests_that_come_in_pieces_while_one_is_answered_are_not_mixed_up(serve):
    """A piece could come between the end of an answer and the start of the next request, which had come whole."""
    service = serve()
    sent = b"".join(load.request("/predict", png(digit)) for digit in DIGITS)
    last = b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n"
    for _ in range(30):
        connection = raw(service)
        for at in range(0, len(sent + last), 7):
            connection.sendall((sent + last)[at : at + 7])
        assert [status for status, _ in answers(said(connection))] == [200] * 11


def test_pipelining_without_end_takes_no_memory(serve):
    """Ten connections with 1 MB of requests each, which is 45,000 requests, and no answer is read."""
    service = serve(read_seconds=600)
    service.http.get("/")
    before = memory(service)
    connections = [raw(service) for _ in range(10)]
    for connection in connections:
        connection.setblocking(False)
        sent = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 40_000
        with contextlib.suppress(BlockingIOError):
            while sent:
                sent = sent[connection.send(sent) :]
    for _ in range(20):
        assert service.http.post("/predict", content=PICTURE).status_code == 200
    assert memory(service) - before < 64
    for connection in connections:
        connection.close()


def test_a_request_after_a_chunked_body_ends_the_connection_with_the_answer(serve):
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(PICTURE) + PICTURE + b"\r\n0\r\n\r\n"
    ((status, body),) = answers(said(raw(serve(), chunked + b"GET /livez HTTP/1.1\r\n\r\n")))
    assert (status, json.loads(body)["digit"]) == (200, 3)


def test_a_client_that_reads_nothing_is_cut_off(serve):
    service = serve(read_seconds=1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", service.port))
    with contextlib.suppress(ConnectionError):  # it is reset when it is cut off
        while True:
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
    connection.close()
    assert service.http.post("/predict", content=PICTURE).status_code == 200


# Heads, chunks, trailers


@pytest.mark.parametrize(
    ("first", "endless"),
    [
        (b"POST /predict HTTP/1.1\r\nX: ", b"a"),
        (b"POST /", b"a"),
        (b"POST /predict HTTP/1.1\r\n", b"a:\r\n"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;", b"a"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: ", b"a"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", b"a:\r\n"),
    ],
    ids=["value", "path", "headers", "extension", "trailer", "trailers"],
)
def test_what_never_ends_is_refused(serve, first, endless):
    service = serve(read_seconds=600)
    before = memory(service)
    connection = raw(service, first)
    with contextlib.suppress(ConnectionError):
        for _ in range(60):  # 60 MB
            connection.sendall(endless * (1_000_000 // len(endless)))
        pytest.fail("it took them all")
    connection.close()
    assert service.metric('neocog_rejected_total{reason="headers-too-large"}') == 1
    assert memory(service) - before < 16


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nX: a\0b\r\n\r\nhello",
        HEAD + b"Content-Length: -5\r\n\r\n",
        HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nno\r\n",
    ],
)
def test_what_is_not_http_is_refused_and_ends_the_connection(serve, sent):
    service = serve()
    ((status, body),) = answers(said(raw(service, sent)))
    assert (status, json.loads(body)["reason"]) == (400, "malformed-http")
    assert not [line for line in service.log if "WARNING" in line or "ERROR" in line]


def test_a_head_of_many_headers_is_refused(serve):
    """16,000 headers of four bytes fit into 64 KB, and take 2 MB once they are parsed."""
    service = serve()
    ((status, body),) = answers(said(raw(service, HEAD + b"a:\r\n" * 5000 + b"\r\n")))
    assert (status, json.loads(body)["reason"]) == (431, "headers-too-large")
    assert service.http.get("/livez", headers=[("a", "b")] * 100).status_code == 200


@pytest.mark.parametrize(("count", "code"), [(len(PICTURE), 200), (100_000, 431)])
def test_chunks_of_one_byte_are_few(serve, count, code):
    """10 MB of them keep the event loop busy for nine seconds."""
    sent = (PICTURE + bytes(count))[:count]
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in sent)
    connection = raw(serve(), HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        connection.sendall(chunks + b"0\r\n\r\n")
    assert connection.recv(12) == b"HTTP/1.1 %d" % code
    connection.close()


@pytest.mark.parametrize("count", [1, 3])
def test_a_client_that_has_ended_its_side_is_answered(serve, count):
    connection = raw(serve(), ASKED * count)
    connection.shutdown(socket.SHUT_WR)
    assert [status for status, _ in answers(said(connection))] == [200] * count


def test_a_client_that_has_ended_its_side_is_refused_where_there_is_no_room(serve):
    service = serve(max_in_flight=1, wait_seconds=600, **Long.SETTINGS)
    asked = Long(service)
    connection = raw(service, ASKED)
    connection.shutdown(socket.SHUT_WR)
    assert [status for status, _ in answers(said(connection))] == [503]
    assert not asked.answered
    assert asked.digits() == [3] * 60


def test_an_offer_of_http2_is_answered_in_http_1(serve):
    """As `curl --http2` makes it, with a body."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
    sent = HEAD + offer + b"Content-Length: %d\r\n\r\n" % len(PICTURE) + PICTURE
    connection = raw(serve(), sent + sent + b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert [status for status, _ in answers(said(connection))] == [200, 200, 200]


def test_a_key_in_a_trailer_is_none(serve):
    service = serve(api_keys="2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b")  # of `secret`
    head, body = HEAD + b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n" % (len(PICTURE), PICTURE)
    key = b"X-API-Key: secret\r\n"
    connection = raw(service, head + key + b"\r\n" + body + b"\r\n")
    assert connection.recv(12) == b"HTTP/1.1 200"
    connection.close()
    connection = raw(service, head + b"\r\n" + body + key + b"\r\n")
    assert connection.recv(12) == b"HTTP/1.1 401"
    connection.close()


# Overload


def test_a_request_waits_for_room(serve):
    service = serve(max_in_flight=1, wait_seconds=600, **Long.SETTINGS)
    asked = Long(service)
    assert service.http.post("/predict", content=PICTURE).json()["digit"] == 3
    assert asked.digits() == [3] * 60
    assert service.metric('neocog_rejected_total{reason="busy"}') == 0


@pytest.mark.parametrize(
    ("framing", "body", "code"),
    [
        (b"Content-Length: %d\r\n" % len(PICTURE), PICTURE, 503),
        (b"Transfer-Encoding: chunked\r\n", b"%x\r\n%b\r\n0\r\n\r\n" % (len(PICTURE), PICTURE), 503),
        (b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!", 400),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n", 400),
        (b"Content-Length: 5\r\nX: a\0b\r\n", b"hello", 400),
    ],
    ids=["plain", "chunked", "two lengths", "length and chunks", "NUL"],
)
def test_a_request_is_refused_that_finds_no_room_in_time(serve, framing, body, code):
    """One that leaves doubt about its end is refused as ever, and its connection ends."""
    service = serve(max_in_flight=1, wait_seconds=0.1, **Long.SETTINGS)
    asked = Long(service)
    connection = raw(service, HEAD + framing + b"\r\n" + body)
    start = connection.recv(12)
    assert not asked.answered
    assert start == b"HTTP/1.1 %d" % code
    if code == 400:
        said(connection)
    else:
        assert asked.digits() == [3] * 60
        connection.recv(65536)
        connection.sendall(ASKED)
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.close()


def test_who_leaves_while_waiting_is_forgotten(serve):
    service = serve(max_in_flight=1, wait_seconds=600, **Long.SETTINGS)
    asked = Long(service)
    gone = [raw(service, ASKED) for _ in range(20)]
    until(lambda: service.metric("neocog_waiting") == 20)
    for connection in gone:
        connection.close()
    until(lambda: service.metric("neocog_waiting") == 0)
    assert not asked.answered
    assert asked.digits() == [3] * 60
    assert service.http.post("/predict", content=PICTURE).json()["digit"] == 3


def test_those_who_wait_are_answered_when_the_service_ends(serve):
    service = serve(max_in_flight=1, wait_seconds=600, **Long.SETTINGS)
    asked = Long(service)
    waiting = [raw(service, ASKED) for _ in range(20)]
    until(lambda: service.metric("neocog_waiting") == 20)
    assert not asked.answered
    service.http.close()
    assert service.stop(within=300) == 0
    assert asked.digits() == [3] * 60
    for connection in waiting:
        ((status, body),) = answers(said(connection))
        assert (status, json.loads(body)["digit"]) == (200, 3)


def test_a_body_that_never_comes_is_waited_for_no_longer_because_its_request_waited(serve):
    service = serve(max_in_flight=1, wait_seconds=600, read_seconds=1, **Long.SETTINGS)
    asked = Long(service)
    connection = raw(service, HEAD + b"Content-Length: 100\r\n\r\nabc")
    until(lambda: service.metric("neocog_waiting") == 1 or asked.answered)
    assert asked.digits() == [3] * 60
    ((status, body),) = answers(said(connection))
    assert (status, json.loads(body)["reason"]) == (408, "too-slow")


@pytest.mark.parametrize("kept", [True, False], ids=["kept connections", "new connections"])
def test_more_than_it_can_answer_is_refused_and_nothing_else_happens(serve, tmp_path, kept):
    """Ten times as many clients as there are places, each asking again at once."""
    service = serve(journal=f"sqlite:///{tmp_path}/journal.db", max_in_flight=16, wait_seconds=0.05)
    seen = asyncio.run(
        load.run(service.port, [load.request("/predict", png(d)) for d in DIGITS], 160, count=10_000, kept=kept)
    )
    assert set(seen.codes) <= {200, 503}
    assert seen.codes.total() == 10_000  # every request has an answer
    assert seen.lost == 0
    assert service.metric('neocog_rejected_total{reason="busy"}') == seen.codes[503]
    assert service.metric("neocog_in_flight") == service.metric("neocog_waiting") == 0
    assert service.http.post("/predict", content=PICTURE).json()["digit"] == 3


def test_the_open_routes_leave_the_others_most_of_the_time(serve):
    """64 connections ask /readyz again and again, which costs as much as a prediction."""
    service = serve()
    over = threading.Event()

    async def beside():
        ready = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
        flood = asyncio.create_task(load.run(service.port, [ready], 64, until=over))
        predicted = await load.run(service.port, [ASKED], 8, count=2000)
        over.set()
        return predicted, await flood

    predicted, flood = asyncio.run(beside())
    assert predicted.codes == {200: 2000}
    assert 0 < flood.codes[200] < 2000
    assert set(flood.codes) == {200}


def test_those_who_ask_an_open_route_and_leave_do_not_pile_up(serve):
    service = serve()
    for _ in range(3000):
        raw(service, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n").close()
    until(lambda: service.http.get("/livez").status_code == 200)
    assert service.metric('neocog_rejected_total{reason="busy"}') > 0


# Memory and connections


def test_the_body_of_a_get_is_thrown_away(serve):
    """Hundreds of them, of 60 kB each, wait for their turn in the lane."""
    service = serve(read_seconds=600)
    service.http.get("/openapi.json")
    before = memory(service)
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + bytes(60_000)
    connections = [raw(service, asked) for _ in range(400)]
    codes = {connection.recv(12) for connection in connections}
    assert codes <= {b"HTTP/1.1 200", b"HTTP/1.1 503"}
    assert memory(service) - before < 16
    for connection in connections:
        connection.close()


def test_uploads_that_promise_much_and_send_nothing_keep_nobody_out(serve):
    service = serve(read_seconds=600)
    stalled = [raw(service, HEAD + b"Content-Length: 9200000\r\n\r\n") for _ in range(50)]
    assert service.http.post("/predict", content=bytes(9_000_000)).status_code == 415
    for connection in stalled:
        connection.close()


def test_uploads_that_stop_make_room_for_those_that_go_on(serve):
    """The memory for bodies is bounded, and a new one takes the place of the one that has stood still longest."""
    service = serve(read_seconds=600, max_buffered_bytes=8_000_000)
    before = memory(service)
    stalled = [raw(service, HEAD + b"Content-Length: 9000000\r\n\r\n" + bytes(1_000_000)) for _ in range(40)]
    until(lambda: len(select.select(stalled, [], [], 0)[0]) >= 32)
    refused = select.select(stalled, [], [], 0)[0]
    assert {connection.recv(12) for connection in refused} == {b"HTTP/1.1 503"}
    assert service.http.post("/predict", content=bytes(3_000_000)).status_code == 415
    assert memory(service) - before < 64
    assert service.http.post("/predict", content=PICTURE).json()["digit"] == 3
    for connection in stalled:
        connection.close()


def test_idle_connections_make_room_for_new_ones(serve):
    service = serve(max_connections=100, read_seconds=600)
    service.http.close()  # it would be the first to go
    idle = [raw(service) for _ in range(150)]
    for _ in range(150):
        assert httpx2.post(f"{service.address}/predict", content=PICTURE, timeout=120).json()["digit"] == 3
    idle += [raw(service, ASKED) for _ in range(150)]
    assert [connection.recv(12) for connection in idle[-50:]] == [b"HTTP/1.1 200"] * 50
    until(lambda: "neocog_connections 100.0" in httpx2.get(f"{service.address}/metrics", timeout=120).text)
    for connection in idle:
        connection.close()


# The port for probes


def test_probes_have_a_port_of_their_own(serve, free_port):
    service = serve(max_in_flight=1, wait_seconds=600, probe_port=free_port, **Long.SETTINGS)
    with httpx2.Client(base_url=f"http://127.0.0.1:{free_port}", timeout=120) as probes:
        asked = Long(service)
        assert probes.get("/livez").text == "ok\n"
        assert probes.get("/readyz").text.startswith("ready: model ")
        assert "neocog_in_flight 1.0" in probes.get("/metrics").text
        assert probes.get("/predict").json()["reason"] == "no-such-path"
        assert probes.post("/livez").status_code == 404
        assert not asked.answered
        assert asked.digits() == [3] * 60


def test_probes_of_several_workers(serve, free_port):
    serve(workers=2, probe_port=free_port)
    for _ in range(20):
        assert httpx2.get(f"http://127.0.0.1:{free_port}/readyz", timeout=120).status_code == 200
    assert "neocog_model_info" in httpx2.get(f"http://127.0.0.1:{free_port}/metrics", timeout=120).text


def test_a_stopped_event_loop_is_told(serve, free_port, monkeypatch):
    from service import readiness
    from service.edge.problems import Problem

    heartbeat = readiness.Heartbeat()
    heartbeat.check()
    later = time.monotonic() + 2 * readiness.STALLED
    monkeypatch.setattr(readiness.time, "monotonic", lambda: later)
    with pytest.raises(Problem) as told:
        heartbeat.check()
    assert (told.value.status, told.value.reason) == (503, "stalled")


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
