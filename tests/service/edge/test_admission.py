import asyncio
import time

import pytest

from service.edge import admission
from service.edge.admission import Admission
from service.edge.problems import Problem


class Waiter:
    def __init__(self, name, said):
        self.name, self._said = name, said

    def admitted(self):
        self._said.append(("admitted", self.name))

    def expired(self):
        self._said.append(("expired", self.name))


def full(limit, wait_seconds):
    made = Admission(limit, wait_seconds)
    for _ in range(limit):
        made.enter()
    return made


def test_those_who_wait_are_admitted_in_turn():
    async def run():
        room, said = full(3, 600), []
        for name in "abc":
            room.wait(Waiter(name, said))
        assert room.full
        assert room.waiting == 3
        for _ in range(3):
            room.leave()
        assert said == [("admitted", "a"), ("admitted", "b"), ("admitted", "c")]
        assert room.full  # for one turn of the event loop: they are about to enter
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not room.full

    asyncio.run(run())


def test_once_the_oldest_has_waited_long_the_newest_goes_first(monkeypatch):
    async def run():
        room, said = full(2, 600), []
        room.wait(Waiter("old", said))
        room.wait(Waiter("middle", said))
        later = admission.time.monotonic() + 301
        monkeypatch.setattr(admission.time, "monotonic", lambda: later)
        room.wait(Waiter("new", said))
        room.leave()
        assert said == [("admitted", "new")]

    asyncio.run(run())


def test_who_has_waited_too_long_is_told_the_oldest_first():
    async def run():
        room, said = full(1, 0.05), []
        for name in "abc":
            room.wait(Waiter(name, said))
        while room.waiting:
            await asyncio.sleep(0.01)
        assert said == [("expired", "a"), ("expired", "b"), ("expired", "c")]

    asyncio.run(run())


def test_a_place_that_nobody_took_is_given_to_the_next():
    """Who was admitted may be gone. Then nobody leaves, and those who wait must not wait for that."""

    async def run():
        room, said = full(1, 600), []
        for name in "ab":
            room.wait(Waiter(name, said))
        room.leave()  # `a` is admitted, and never enters
        while room.waiting:
            await asyncio.sleep(0.01)
        assert said == [("admitted", "a"), ("admitted", "b")]

    asyncio.run(run())


def test_a_request_that_is_parsed_waits_too_and_may_give_up():
    async def run():
        room = full(1, 600)
        waits = asyncio.create_task(room.room())
        leaves = asyncio.create_task(room.room())
        await asyncio.sleep(0)
        assert room.waiting == 2
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        assert room.waiting == 1
        room.leave()
        await waits

        brief = full(1, 0.01)
        with pytest.raises(Problem) as refused:
            await brief.room()
        assert (refused.value.status, refused.value.reason, refused.value.retry_after) == (503, "busy", 1)

    asyncio.run(run())


def test_refusing_takes_a_small_share_of_the_time():
    """1,000 refusals of 2 ms each: no sweep does more than its share of the time since the last one, and one more."""

    class Costly(Waiter):
        def expired(self):
            super().expired()
            time.sleep(0.002)

    async def run():
        room, said = full(1, 0.001), []
        for i in range(1000):
            room.wait(Costly(i, said))
        begun = admission.time.monotonic()
        while admission.time.monotonic() < begun + 0.5:
            await asyncio.sleep(0.005)
        sweeps = (admission.time.monotonic() - begun) / admission.SWEEP
        assert 0 < len(said) < 1000
        assert len(said) <= sweeps * (admission.SWEEP * admission.REFUSING / 0.002 + 1) + 2

    asyncio.run(run())


def test_one_sweep_is_due_however_often_the_last_waiter_goes(monkeypatch):
    """At the edge of overload, those who wait come and go thousands of times a second."""

    async def run():
        room, said, due = full(1, 600), [], []
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda *call: due.append(call))
        for i in range(1000):
            waiter = Waiter(i, said)
            room.wait(waiter)
            room.forget(waiter)
        assert len(due) == 1

    asyncio.run(run())
