"""Processor time, which other load on the machine changes least. It has no command of its own."""

import time
from collections.abc import Callable


def processor_time(*works: Callable[[], object], rounds: int, calls: int = 1) -> list[float]:
    """Seconds of this thread's processor time for one call of each of `works`.

    Each round calls every work `calls` times, one work after the other, so a change of the machine's speed meets all
    of them. The result is the least of the rounds.
    """
    least = [float("inf")] * len(works)
    for _ in range(rounds):
        for index, work in enumerate(works):
            begun = time.thread_time()
            for _ in range(calls):
                work()
            least[index] = min(least[index], (time.thread_time() - begun) / calls)
    return least
