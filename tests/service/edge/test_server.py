"""Signals, deadlines, room for so many, and what is logged: of a real process."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import ClassVar

import httpx2
import numpy as np
import pytest

from tests.bundles import DIGITS, png
from tests.waiting import until

PICTURE = png(DIGITS[3])
LARGE = png(np.kron(DIGITS[3], np.ones((100, 100), np.uint8)))  # 2800x2800: some 50 ms


class Long:
    """A request that is in hand for seconds: a batch of 60 large pictures, on a thread of its own."""

    SETTINGS: ClassVar = {"max_pixels": 10**9, "grace_seconds": 600}  # it is let in, and may take its time

    def __init__(self, service):
        self._service = service
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        until(lambda: service.metric("neocog_in_flight") == 1)

    def _ask(self):
        with httpx2.Client(base_url=self._service.address, timeout=600) as client:
            self._answer = client.post("/predict/batch", files=[("image", ("d", LARGE))] * 60)

    @property
    def answered(self):
        return not self._thread.is_alive()

    def digits(self):
        self._thread.join()
        return [entry["digit"] for entry in self._answer.json()["predictions"]]


def raw(service, data=b"", timeout=120):
    connection = socket.create_connection(("127.0.0.1", service.port), timeout)
    connection.sendall(data)
    return connection


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", [1, 2])
def test_it_ends_with_0(serve, with_signal, workers):
    assert serve(workers=workers).stop(with_signal) == 0


def test_what_is_in_hand_is_finished_before_the_end(serve):
    service = serve(**Long.SETTINGS)
    asked = Long(service)
    assert service.stop(within=300) == 0
    assert asked.digits() == [3] * 60
    with pytest.raises(OSError, match="refused"):
        raw(service)


@pytest.mark.parametrize("workers", [1, 2])
def test_who_keeps_a_connection_alive_is_told_before_it_ends(serve, workers):
    """As a pod that is deleted while a client holds on to it: no request of either is lost."""
    service = serve(drain_seconds=600, workers=workers)
    kept = [httpx2.Client(base_url=service.address, timeout=120) for _ in range(8)]
    for client in kept:
        assert client.post("/predict", content=PICTURE).headers.get("connection") != "close"
    service.process.send_signal(signal.SIGTERM)
    until(lambda: service.http.get("/readyz").status_code == 503)
    assert service.http.get("/readyz").json()["reason"] == "draining"
    assert service.http.get("/livez").status_code == 200

    def told(client):
        said = client.post("/predict", content=PICTURE)
        assert said.json()["digit"] == 3
        return said.headers.get("connection") == "close"

    for client in kept:
        until(lambda client=client: told(client))  # the other worker may hear of it a moment later
        client.close()
    service.http.close()
    assert service.stop(within=60) == 0  # all are gone: nobody is waited for the 600 seconds


def test_draining_ends_though_a_connection_stays(serve):
    service = serve(drain_seconds=1)
    idle = raw(service)
    assert service.stop() == 0
    idle.close()


def test_an_idle_connection_does_not_hold_up_the_end(serve):
    service = serve(read_seconds=1200, grace_seconds=600)
    connections = [raw(service), raw(service, b"POST /predict HTTP/1.1\r\nContent-Le")]
    assert service.stop(within=60) == 0
    for connection in connections:
        connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /pre",
        b"POST /predict HTTP/1.1\r\nHost: x\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
    ids=["nothing", "line", "headers", "body", "chunks"],
)
def test_who_is_too_slow_is_cut_off(serve, sent):
    service = serve(read_seconds=1)
    begun = time.monotonic()
    connection = raw(service, sent)
    said = b""
    while part := connection.recv(4096):
        said += part
    assert time.monotonic() - begun > 0.99  # not before its time
    assert said.startswith(b"HTTP/1.1 408 ")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["reason"] == "too-slow"
    connection.close()
    assert service.metric('neocog_rejected_total{reason="too-slow"}') == 1


def test_a_connection_that_is_used_is_not_cut_off(serve):
    service = serve(read_seconds=2)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        assert service.http.post("/predict", content=PICTURE).status_code == 200
        time.sleep(0.5)
    assert service.metric('neocog_rejected_total{reason="too-slow"}') == 0


def test_more_than_there_is_room_for_are_refused_and_probes_are_not(serve):
    service = serve(max_in_flight=1, **Long.SETTINGS)
    asked = Long(service)
    refused = service.http.post("/predict", content=PICTURE)
    for probe in ("/livez", "/readyz", "/metrics", "/v2/health/live"):
        assert service.http.get(probe).status_code == 200
    assert not asked.answered
    assert (refused.status_code, refused.json()["reason"], refused.headers["retry-after"]) == (503, "busy", "1")
    assert service.metric('neocog_rejected_total{reason="busy"}') == 1
    assert asked.digits() == [3] * 60
    assert service.http.post("/predict", content=PICTURE).status_code == 200


def test_large_images_do_not_hold_up_small_ones(serve):
    service = serve(counted=False, **Long.SETTINGS)
    asked = Long(service)
    for _ in range(5):
        assert service.http.post("/predict", content=PICTURE).status_code == 200
    assert not asked.answered
    assert asked.digits() == [3] * 60


def test_a_request_is_known_again_in_answer_and_log(serve):
    service = serve(access_log="true")
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = service.http.post("/predict", content=PICTURE, headers={"X-Request-ID": "mine", "traceparent": trace})
    assert (answer.headers["x-request-id"], answer.headers["traceparent"]) == ("mine", trace)
    assert len(service.http.get("/livez", headers={"X-Request-ID": "x" * 200}).headers["x-request-id"]) == 32
    until(lambda: any("/predict 200" in line for line in service.log))
    (line,) = [json.loads(line) for line in service.log if "/predict 200" in line]
    assert line["request_id"] == "mine"
    assert line["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert (line["method"], line["path"], line["code"]) == ("POST", "/predict", 200)
    assert line["milliseconds"] > 0


def test_logs_can_be_read_by_people(serve):
    assert any(
        line.rstrip().endswith("Application startup complete.") and line[0] != "{"
        for line in serve(log_format="text").log
    )


def test_spans_are_sent_to_a_collector(serve):
    from http.server import BaseHTTPRequestHandler, HTTPServer

    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        import os

        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.server_port}"
        try:
            service = serve(tracing="true")
        finally:
            del os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
        assert service.http.post("/predict", content=PICTURE, headers=headers).status_code == 200
        assert service.stop() == 0
        until(lambda: bytes.fromhex(trace) in b"".join(received))
        collector.shutdown()
    assert b"POST /predict" in b"".join(received) or b"/predict" in b"".join(received)


def test_slow_bodies_take_nobodys_place(serve):
    service = serve(max_in_flight=2, read_seconds=600, grace_seconds=2)
    slow = [raw(service, b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc") for _ in range(10)]
    for _ in range(5):
        assert service.http.post("/predict", content=PICTURE).status_code == 200
    for connection in slow:
        connection.close()


HANGING = """
import asyncio, signal, threading, time
from service.edge.admission import Admission
from service.edge.draining import drain_first

async def main():
    signal.signal(signal.SIGTERM, lambda *_: None)  # as a server that waits for something that never ends
    drain_first(Admission(1, 1), 0, 0.5)
    threading.Thread(target=time.sleep, args=(3600,)).start()
    print("ready", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_whatever_hangs_the_process_ends_in_time():
    with subprocess.Popen([sys.executable, "-c", HANGING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 1
