"""Decoders die, hang and cannot start; what waits for them is answered, and nothing of it is left behind."""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench.bombs import COSTLY, endless_jpeg
from model.canonical.images import NotAnImage, TooCostly
from service.decoding import pool
from service.decoding.child import GROWN, MEMORY
from service.decoding.pool import DECODERS, Decoders
from service.edge.problems import Problem
from tests.bundles import DIGITS, png

pytestmark = pytest.mark.slow  # it starts processes

FILES = [png(digit) for digit in DIGITS]
ENDLESS = endless_jpeg(8_000_000)


OTHERS: set[psutil.Process] = set()  # decoders of an application that other tests run in this process


def run(test, *, max_pixels=25_000_000, max_in_flight=256):
    """Runs the coroutine function `test` with decoders."""

    async def within():
        OTHERS.clear()
        OTHERS.update(children())
        async with Decoders(max_pixels, max_in_flight) as decoders:
            return await test(decoders)

    return asyncio.run(asyncio.wait_for(within(), 240))


def children():
    """The decoders that live, but for `OTHERS`."""
    living = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            alive = "service.decoding.child" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE
            if alive and child not in OTHERS:
                living.append(child)
    return living


async def until(happens):
    async with asyncio.timeout(120):
        while not happens():
            await asyncio.sleep(0.02)


async def ready(decoders):
    """Waits until all decoders have started."""
    await until(lambda: decoders._ready == DECODERS)
    return children()


def used(child):
    """Seconds of processor time: a decoder takes more only while it has a job."""
    return sum(child.cpu_times()[:2])


def digits(outcomes):
    return [next(d for d in range(10) if np.array_equal(outcome, DIGITS[d])) for outcome in outcomes]


def test_many_pictures_are_answered_in_order():
    async def test(decoders):
        return await decoders.canonical("a", FILES * 25)

    outcomes = run(test)
    assert digits(outcomes) == list(range(10)) * 25


@pytest.mark.parametrize("bytes_of_a_job", [pool.JOB_BYTES, 10**8])
def test_one_that_ends_its_decoder_spoils_no_other(monkeypatch, bytes_of_a_job):
    """Alone in its job, or among others."""
    monkeypatch.setattr(pool, "JOB_BYTES", bytes_of_a_job)

    async def test(decoders):
        return await decoders.canonical("a", [*FILES[:3], ENDLESS, *FILES[3:]])

    outcomes = run(test)
    assert digits(outcomes[:3] + outcomes[4:]) == list(range(10))
    assert isinstance(outcomes[3], TooCostly)
    assert str(outcomes[3]) == "the picture takes more than 2 seconds of processor time to decode"


@pytest.mark.parametrize("name", COSTLY)
def test_what_is_costly_is_bounded(name):
    async def test(decoders):
        processes = await ready(decoders)
        before = {process.pid: process.memory_info().rss for process in processes}
        (outcome,) = await decoders.canonical("a", [COSTLY[name]])
        assert isinstance(outcome, Exception)
        grown = [high(pid) - rss for pid, rss in before.items() if psutil.pid_exists(pid)]
        assert max(grown, default=0) <= MEMORY + GROWN
        return digits(await decoders.canonical("a", FILES[4:6]))

    assert run(test) == [4, 5]


def high(pid):
    """Bytes that a process had in use at most; 0 where it has ended."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return 0


def test_a_decoder_that_is_killed_at_work_answers_with_a_problem_and_is_replaced():
    async def test(decoders):
        processes = await ready(decoders)
        rest = {process.pid: used(process) for process in processes}
        asked = asyncio.create_task(decoders.canonical("a", [ENDLESS]))
        await until(lambda: any(used(process) > rest[process.pid] + 0.1 for process in processes))
        for process in processes:
            if used(process) > rest[process.pid] + 0.1:
                process.kill()
        (outcome,) = await asked
        assert isinstance(outcome, TooCostly)
        assert str(outcome) == "the process that decoded the picture ended with status -9"
        assert digits(await decoders.canonical("a", FILES)) == list(range(10))
        await ready(decoders)
        assert len(children()) == DECODERS

    run(test)


def test_decoders_that_are_killed_idle_are_replaced_before_anybody_notices():
    async def test(decoders):
        for _ in range(3):
            for process in await ready(decoders):
                process.kill()
                process.wait(60)
            assert digits(await decoders.canonical("a", FILES)) == list(range(10))

    run(test)


def test_a_decoder_that_hangs_is_replaced(monkeypatch):
    monkeypatch.setattr(pool, "ANSWER_WITHIN", 1)

    async def test(decoders):
        stopped = await ready(decoders)
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        with pytest.raises(Problem) as raised:
            await decoders.canonical("a", FILES[:1])
        assert raised.value.reason == "busy"
        monkeypatch.setattr(pool, "ANSWER_WITHIN", 60)
        for process in stopped:
            with contextlib.suppress(psutil.Error):
                process.kill()
        assert digits(await decoders.canonical("a", FILES)) == list(range(10))

    run(test)


@pytest.mark.parametrize("state", ["idle", "working", "stopped", "starting"])
def test_closing_waits_for_no_decoder(state):
    async def test(decoders):
        if state == "starting":
            await until(children)
            return children(), []
        processes = await ready(decoders)
        rest = {process.pid: used(process) for process in processes}
        asked = []
        if state == "working":
            asked = [asyncio.create_task(decoders.canonical("a", [ENDLESS])) for _ in range(5)]
            await until(lambda: all(used(process) > rest[process.pid] + 0.1 for process in processes))
        if state == "stopped":
            for process in processes:
                process.send_signal(signal.SIGSTOP)
            asked = [asyncio.create_task(decoders.canonical("a", [ENDLESS])) for _ in range(5)]
            await asyncio.sleep(0.1)
        return processes, asked

    processes, asked = run(test)
    assert processes
    assert not [process for process in processes if process.is_running()]
    assert all(task.done() for task in asked)


def test_where_none_can_be_started_requests_are_refused_until_one_can(monkeypatch):
    python = sys.executable
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(pool, "PAUSES", (0.1,))

    async def test(decoders):
        for _ in range(3):
            with pytest.raises(Problem) as raised:
                await decoders.canonical("a", FILES[:1])
            assert (raised.value.status, raised.value.reason) == (503, "no-decoder")
        monkeypatch.setattr(sys, "executable", python)
        await ready(decoders)
        return digits(await decoders.canonical("a", FILES))

    assert run(test) == list(range(10))


def test_pauses_grow_while_decoders_end_in_vain(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(pool, "PAUSES", (0.001, 0.002, 0.003))
    paused, sleep = [], asyncio.sleep

    async def noted(seconds):
        if seconds in pool.PAUSES:  # an application in the same process sleeps, too
            paused.append(seconds)
        await sleep(seconds)

    async def test(_):
        async with asyncio.timeout(120):
            while len(paused) < 10 * DECODERS:
                await sleep(0.01)

    monkeypatch.setattr(pool.asyncio, "sleep", noted)
    run(test)
    assert paused.count(0.001) == paused.count(0.002) == DECODERS
    assert paused.count(0.003) >= 8 * DECODERS - 1


def test_each_caller_has_a_bound():
    async def test(decoders):
        many = [asyncio.create_task(decoders.canonical("many", [FILES[0]])) for _ in range(5)]
        await asyncio.sleep(0)
        one = asyncio.create_task(decoders.canonical("one", [FILES[1]]))
        await asyncio.sleep(0)
        refused = await asyncio.gather(*many, return_exceptions=True)
        assert digits(await one) == [1]
        assert [isinstance(outcome, Problem) for outcome in refused] == [False] * 4 + [True]
        assert (refused[-1].status, refused[-1].reason) == (503, "busy")
        assert not decoders._asking  # every place is free again

    run(test, max_in_flight=16)


def test_the_queue_takes_one_of_each_caller_in_turn():
    async def test():
        queue = pool._Queue()
        for caller in "aaabba":
            queue.put(caller, pool._Job([]))
        queue.put("c", pool._Job([]))
        return "".join([(await queue.get())[0] for _ in range(7)])

    assert asyncio.run(test()) == "abcabaa"


def test_all_together_have_a_bound():
    async def test(decoders):
        asked = [asyncio.create_task(decoders.canonical(str(i), [FILES[i]])) for i in range(9)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(outcome, Problem) for outcome in outcomes] == [False] * 8 + [True]

    run(test, max_in_flight=16)


def test_a_request_has_two_jobs_at_most_and_its_pixels_and_seconds_are_counted_together(monkeypatch):
    async def pixels(decoders):
        with pytest.raises(Problem) as raised:
            await decoders.canonical("a", FILES * 10)
        return raised.value

    problem = run(pixels, max_pixels=784 * 99)
    assert problem.reason == "too-many-pixels"
    assert str(problem) == "78,400 pixels in all, or more; at most 77,616 are decoded"

    monkeypatch.setattr(pool, "REQUEST_SECONDS", 1.0)

    async def seconds(decoders):
        return await decoders.canonical("a", [ENDLESS] * 6 + FILES)

    outcomes = run(seconds)
    said = {str(outcome) for outcome in outcomes[:6]}
    assert {"the request's pictures took more than 1 seconds of processor time to decode"} < said
    assert all(isinstance(outcome, TooCostly) for outcome in outcomes)


def test_jobs_are_few_pictures_of_few_bytes():
    sizes = [10] * 20 + [70_000, 10, 40_000, 30_000]
    assert [list(job) for job in pool._jobs([bytes(size) for size in sizes])] == [
        [*range(8)], [*range(8, 16)], [*range(16, 20)], [20], [21, 22], [23],
    ]  # fmt: skip


def test_what_is_wrong_with_a_picture_is_said():
    async def test(decoders):
        return await decoders.canonical("a", [b"not an image"])

    (outcome,) = run(test)
    assert type(outcome) is NotAnImage
