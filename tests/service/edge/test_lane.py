import asyncio

import pytest

from service.edge.lane import LONGEST, SHARE, Lane


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when somebody sleeps."""

    now = 0.0

    def time(self):
        return self.now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0].when())
        super()._run_once()


@pytest.mark.parametrize(("takes", "cycle"), [(0.001, 0.001 / SHARE), (0.01, 0.01 / SHARE), (1.0, 1.0 + LONGEST)])
def test_open_routes_pass_one_at_a_time_and_take_their_share(takes, cycle):
    async def run():
        lane, loop, begun = Lane(), asyncio.get_running_loop(), []

        async def answer():
            async with lane:
                begun.append(loop.time())
                await asyncio.sleep(takes)

        await asyncio.gather(*(answer() for _ in range(5)))
        return begun

    with asyncio.Runner(loop_factory=Clock) as runner:
        begun = runner.run(run())
    assert begun == pytest.approx([cycle * i for i in range(5)])


def test_who_leaves_keeps_nobody_waiting():
    async def run():
        lane = Lane()
        async with lane:
            waits = asyncio.create_task(lane.__aenter__())
            await asyncio.sleep(0)
            waits.cancel()
        async with lane:
            sleeps = asyncio.create_task(lane.__aenter__())
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        sleeps.cancel()
        async with asyncio.timeout(60):
            async with lane:
                pass

    asyncio.run(run())
