"""The memory that something takes, measured in a process of its own."""

import importlib
import subprocess
import sys


def grown(make):
    """Bytes by which a process grows while it makes and keeps what the module's function `make` returns."""
    command = [sys.executable, "-m", "tests.service.memory", make.__module__, make.__name__]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


def resident():
    """Bytes of this process that are in memory."""
    import psutil

    return psutil.Process().memory_info().rss


if __name__ == "__main__":
    function = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
    before = resident()
    kept = function()
    print(resident() - before)
