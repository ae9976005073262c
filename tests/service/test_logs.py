"""Logging waits for nobody: whoever does not read stderr loses lines, and nothing else."""

import contextlib
import http.client
import json
import logging
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading

import pytest

from service.logs import MAX_TEXT, MAX_WAITING, JSONLines, Stderr, TextLines
from tests.waiting import until


def record(message, name="neocog", exc_info=None, **more):
    made = logging.LogRecord(name, logging.ERROR, __file__, 1, message, None, exc_info)
    made.__dict__.update(more)
    return made


@contextlib.contextmanager
def logging_to_a_pipe(*, blocking=True):
    """A handler, and the end of its pipe that may be read."""
    descriptor, writing = os.pipe()
    os.set_blocking(writing, blocking)
    handler = Stderr(writing)
    handler.setFormatter(JSONLines())
    with os.fdopen(descriptor, "rb", 0) as reading:
        yield handler, reading
    handler.close()  # nobody reads any longer: whatever still waits is given up
    handler._thread.join()
    os.close(writing)


def read_until(reading, happens):
    """The lines that come until `happens` is true."""
    read = b""
    while not happens() or select.select([reading], [], [], 0)[0]:
        if select.select([reading], [], [], 0.05)[0]:
            read += reading.read(65_536)
    return [json.loads(line) for line in read.splitlines()]


def listens(port):
    """Several workers' port is announced before the first of them listens."""
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def malformed(port):
    with socket.create_connection(("127.0.0.1", port), 120) as connection:
        connection.sendall(b"\0\0\0\r\n")
        with contextlib.suppress(ConnectionError):
            while connection.recv(4096):
                pass


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_service_whose_stderr_nobody_reads_answers_and_ends(bundle_folder, workers):
    settings = {"bundle": bundle_folder, "port": 0, "journal": "off", "access_log": True, "workers": workers}
    env = {**os.environ, **{f"NEOCOG_{name.upper()}": str(value) for name, value in settings.items()}}
    process = subprocess.Popen([sys.executable, "-m", "service"], env=env, stderr=subprocess.PIPE, text=True, bufsize=1)
    try:
        lines = (re.search(r"running on http://[\d.]+:(\d+)", line) for line in process.stderr)
        port = int(next(filter(None, lines))[1])
        until(lambda: listens(port))
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

        def get(path):
            client.request("GET", path)
            answer = client.getresponse()
            return answer.status, answer.read().decode()

        def count():
            found = re.search(r"^neocog_log_dropped_total (\d+)", get("/metrics")[1], re.MULTILINE)
            return int(found[1]) if found else 0

        for _ in range(1000):
            malformed(port)
        while not count():  # each worker has its own queue; this connection belongs to one of them
            for _ in range(100):
                assert get("/" + "long" * 1000)[0] == 404
        assert get("/livez")[0] == 200
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_what_waits_is_bounded_and_what_is_dropped_is_said():
    with logging_to_a_pipe() as (handler, reading):
        for number in range(3000):
            handler.handle(record(f"{number} ".ljust(1000, "x")))
            assert handler.waiting < MAX_WAITING + 2000
        lost = handler.dropped
        *written, last = read_until(reading, lambda: handler._reported)
    numbers = [int(line["message"].split()[0]) for line in written]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 3000 - lost
    assert lost > 1000  # 1 MB waits, and the pipe holds 64 kB
    assert last["message"] == f"{lost} lines were not logged: stderr was read too slowly"
    assert (last["level"], last["logger"]) == ("warning", "neocog.logs")


def test_waiting_for_the_lines_is_given_up_where_nobody_reads():
    with logging_to_a_pipe() as (handler, _):
        for _ in range(200):
            handler.handle(record("x" * 1000))
        handler.flush()  # it would never end
        assert handler.waiting


def test_a_pipe_that_does_not_block_loses_nothing():
    with logging_to_a_pipe(blocking=False) as (handler, reading):
        for number in range(500):
            handler.handle(record(f"{number} ".ljust(1000, "x")))
        lines = read_until(reading, lambda: not handler.waiting)
    assert [line["message"].split()[0] for line in lines] == [str(number) for number in range(500)]


def test_a_pipe_that_is_closed_ends_nothing():
    with logging_to_a_pipe() as (handler, reading):
        reading.close()
        for _ in range(10):
            handler.handle(record("x"))
        until(lambda: not handler.waiting)
        assert handler.dropped == 10
        assert handler._thread.is_alive()


def test_lines_of_one_piece_are_not_mixed_with_those_of_others():
    with logging_to_a_pipe() as (handler, reading):
        lengths = [10, 3000, 5000, 900, 900, 900, 900, 900, 20_000, 10]
        for number, length in enumerate(lengths):
            handler.handle(record("é" * length, more={"number": number}))
        lines = read_until(reading, lambda: not handler.waiting)
    assert [line["number"] for line in lines] == list(range(10))


def test_a_long_text_loses_its_middle():
    message = "first" + "é" * 100_000 + "last"
    for formatter in (JSONLines(), TextLines()):
        line = formatter.format(record(message, more={"path": "/" + "long" * 10_000}))
        assert len(line) < 2 * MAX_TEXT + 500
        assert "first" in line
        assert "last" in line
        assert " characters … " in line


def test_a_traceback_keeps_its_end():
    def deep(levels):
        return deep(levels - 1) if levels else 1 / 0

    try:
        deep(3)
    except ZeroDivisionError:
        made = record("it failed", exc_info=sys.exc_info())
    told = json.loads(JSONLines().format(made))
    assert told["message"] == "it failed"
    assert told["exception"].startswith("Traceback")
    assert told["exception"].endswith("ZeroDivisionError: division by zero")


def test_any_text_is_logged():
    with logging_to_a_pipe() as (handler, reading):
        handler.handle(record("\ud800 \0 \n é"))
        (line,) = read_until(reading, lambda: not handler.waiting)
    assert line["message"] == "\ud800 \0 \n é"


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_the_last_lines_come_out_before_the_end(log_format):
    script = f"""
import logging.config, sys, warnings
from service.logs import configuration
logging.config.dictConfig(configuration({log_format!r}))
logging.getLogger("neocog").info("info of ours")
logging.getLogger("others").info("info of others")
warnings.warn("a warning")
for number in range(100):
    logging.getLogger("others").error("line %d", number)
sys.exit(3)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 3
    lines = ran.stderr.splitlines()
    assert "info of ours" in lines[0]
    assert "UserWarning: a warning" in lines[1]
    told = [line for line in lines if "line " in line]
    assert len(told) == 100
    assert "line 99" in lines[-1]


def test_without_a_stderr_nothing_is_written_anywhere(tmp_path):
    """The first file that is opened then gets descriptor 2."""
    script = f"""
import logging, logging.config
file = open({str(tmp_path / "file")!r}, "w")
assert file.fileno() == 2
from service.logs import configuration
logging.config.dictConfig(configuration("json"))
logging.getLogger("neocog").error("a line")
"""
    ran = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, script])
    assert ran.returncode == 0
    assert (tmp_path / "file").read_text() == ""


def test_a_handler_that_is_closed_ends_its_thread():
    with logging_to_a_pipe() as (handler, _):
        assert handler._thread in threading.enumerate()
        handler.close()
        until(lambda: not handler._thread.is_alive())
        handler.flush()
