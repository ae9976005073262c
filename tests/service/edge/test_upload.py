"""Hostile bodies: each gets its answer, takes little memory, and little work. `python -m bench.bodies` times them."""

import asyncio
import sys

import pytest

from bench.bodies import HOSTILE, MOST, Connection, Resident, send
from service.edge.calls import Call
from service.edge.forms import MAX_PARTS
from service.edge.problems import Problem
from service.edge.upload import MAX_TYPE, SPARE_VALUES, bounded, image_bytes, parsed, read_body
from tests.service.conftest import Service


@pytest.fixture(scope="module")
def service(bundle_folder):
    running = Service(bundle_folder, counted=False)
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def connection(service):
    connection = Connection("127.0.0.1", service.port, timeout=600)
    yield connection
    connection.close()


@pytest.fixture(scope="module")
def resident(service, connection):
    resident = Resident(service.process.pid)
    send(connection, HOSTILE["10 MB of base64"])  # buffers of the largest size are made once
    return resident


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_gets_its_answer_and_little_memory(connection, resident, name):
    hostile = HOSTILE[name]
    resident.highest()
    before = resident.highest()
    assert send(connection, hostile) == hostile.reason
    assert resident.highest() - before < 64 + len(hostile.body) / 2**20


def lines_run(work, most):
    """How many lines of Python `work` runs. Ends it where they are more than `most`."""
    count = 0

    def trace(*_):
        nonlocal count
        count += 1
        assert count <= most, f"more than {most:,} lines"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def call(hostile):
    path, _, query = hostile.path.partition("?")
    return Call(path, query.encode(), {b"content-type": hostile.content_type.encode()}, hostile.body, "")


@pytest.mark.parametrize("name", [name for name in HOSTILE if HOSTILE[name].path == "/predict"])
def test_the_work_for_a_hostile_body_does_not_grow_with_what_is_hostile(name):
    sent = call(HOSTILE[name])

    def work():
        try:
            image_bytes(sent)
        except Problem as problem:
            assert problem.reason == HOSTILE[name].reason  # noqa: PT017 - an image may be found, too

    assert lines_run(work, 500 * MAX_PARTS) > 0


def test_a_query_has_a_bounded_number_of_parameters():
    sent = call(HOSTILE["60 kB of parameters"])

    def work():
        with pytest.raises(Problem, match="the query has more than 16 parameters"):
            sent.parameter("explain")

    assert lines_run(work, 20_000) > 0
    assert sent._replace(query=b"a&" * 15 + b"explain=1").parameter("explain") == "1"


@pytest.mark.parametrize("unit", [b"0,", b"[],", b'{"a":0},', b"[", b'{"a":'])
def test_json_holds_a_bounded_number_of_values(unit):
    values = 10
    structural = sum(unit.count(byte) for byte in (b",", b":", b"["))
    most = (values + SPARE_VALUES) // structural
    with pytest.raises(Problem) as read:
        parsed(b"!" + unit * most, values)
    assert read.value.reason == "malformed-json"
    with pytest.raises(Problem) as counted:
        parsed(b"!" + unit * (most + 1), values)
    assert counted.value.reason == "too-many-values"
    assert counted.value.detail == "the JSON holds more values than the 4,106 that are read here"


def test_a_content_type_has_a_bounded_length():
    longest = "image/png;".ljust(MAX_TYPE, "a")
    assert image_bytes(Call("/predict", b"", {b"content-type": longest.encode()}, b"1", "")) == b"1"
    with pytest.raises(Problem, match="Content-Type: 257 characters, at most 256 are allowed"):
        image_bytes(Call("/predict", b"", {b"content-type": longest.encode() + b"a"}, b"1", ""))


def test_a_route_may_read_less_than_the_service():
    assert bounded(b"1234", 4) == b"1234"
    with pytest.raises(Problem, match="the body has 5 bytes or more; at most 4 are read"):
        bounded(b"12345", 4)


@pytest.mark.parametrize("sizes", [(0,), (4,), (1, 3), (1, 1, 1, 1, 0), (0, 4)])
def test_a_body_is_joined_from_what_arrives(sizes):
    whole, at, messages = b"abcd"[: sum(sizes)], 0, []
    for size in sizes:
        messages.append({"type": "http.request", "body": whole[at : at + size], "more_body": True})
        at += size
    messages[-1]["more_body"] = False

    async def receive():
        return messages.pop(0)

    assert asyncio.run(read_body(receive, {}, 4)) == whole


@pytest.mark.parametrize("length", [b"5", b"9" * 60_000])
def test_a_body_that_says_it_is_too_large_is_not_read(length):
    with pytest.raises(Problem, match="at most 4 are read"):
        asyncio.run(read_body(None, {b"content-length": length}, 4))


def test_every_hostile_body_is_read():
    assert all(len(hostile.body) <= MOST for hostile in HOSTILE.values())
