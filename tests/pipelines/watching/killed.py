"""Starts a watch and kills it after its first transaction, a few times: `python -m tests.pipelines.watching.killed`."""

import os
import signal
import sys
from pathlib import Path

from model.predictor import Predictor
from tests.pipelines.watching.test_reading import read, stored

url, folder, times = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
for _ in range(times):
    before = [row.prediction_cursor for row in stored(url)] or [""]
    child = os.fork()  # starting Python anew would take seconds
    if not child:
        read(url, Predictor.load(folder), chunk=10)
        os._exit(0)
    while ([row.prediction_cursor for row in stored(url)] or [""]) == before:
        pass
    os.kill(child, signal.SIGKILL)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended != -signal.SIGKILL:
        sys.exit(f"it ended with {ended} before it was killed")
