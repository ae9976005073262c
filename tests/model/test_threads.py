"""Threads that nothing waits for."""

import subprocess
import sys
import threading

import pytest

from model.threads import Threads


def test_a_call_returns_and_raises_through_its_future():
    threads = Threads(2, "test")
    assert threads.submit(int, "7").result(timeout=120) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        threads.submit(int, "x").result(timeout=120)
    assert threads.submit(int, "8").result(timeout=120) == 8  # the thread goes on
    threads.close(within=120)


def test_what_is_cancelled_before_its_turn_is_not_called():
    threads, busy, made = Threads(1, "test"), threading.Event(), []
    first = threads.submit(busy.wait)
    second, third = threads.submit(made.append, 2), threads.submit(made.append, 3)
    assert second.cancel()
    busy.set()
    third.result(timeout=120)
    assert (first.result(), made) == (True, [3])
    threads.close(within=120)


def test_closing_cancels_what_waits():
    threads, busy = Threads(1, "test"), threading.Event()
    threads.submit(busy.wait)
    waiting = threads.submit(int)
    threads.close()
    assert waiting.cancelled()
    busy.set()


def test_a_call_that_never_ends_does_not_keep_the_process():
    code = "import threading, model.threads as m; m.Threads(1, '').submit(threading.Event().wait)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
