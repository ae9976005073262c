"""Starts a watch and kills it after its first transaction, a few times: `python -m tests.pipelines.watching.killed`."""

import os
import signal
import sys
from pathlib import Path

from model.predictor import Predictor
from tests.pipelines.watching.test_reading import read, stored


def place(url: str) -> str:
    return next((row.prediction_cursor for row in stored(url)), "")


def main() -> None:
    url, folder, times = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    killed = 0
    for _ in range(times):
        before = place(url)
        child = os.fork()  # starting Python anew would take seconds
        if not child:
            read(url, Predictor.load(folder), chunk=10)
            os._exit(0)
        while place(url) == before and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            pass
        os.kill(child, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    sys.exit(not killed)


if __name__ == "__main__":
    main()
