"""A Redis server of a test's own; killed and started again for real."""

import shutil
import socket
import subprocess
import time

import pytest

from service.edge.absence import AWAY


class Redis:
    """A server of its own; killed and started again for real."""

    def __init__(self):
        if shutil.which("redis-server") is None:
            pytest.skip("needs redis-server: apt-get install redis-server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(1200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        pytest.fail("Redis did not start")

    def kill(self):
        self.process.kill()
        self.process.wait()


def undisturbed(services, ask):
    """What `ask` gives, asked again where a busy machine kept a service waiting for Redis for longer than it does."""
    for turn in range(20):
        answers = ask(turn)
        if not any("Redis is away" in line for service in services for line in service.log):
            return answers
        for service in services:
            service.log.clear()
        time.sleep(AWAY)
    pytest.fail("Redis never answered in time")
