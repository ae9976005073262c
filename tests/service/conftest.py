"""The service, in this process and as a process of its own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

import httpx2
import psutil
import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.bundles import make_bundle
from tests.service.redis import Redis


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service") / "bundle"
    make_bundle(folder)
    return folder


@contextlib.contextmanager
def in_process(bundle_folder, **settings):
    """A client of the application without a network: fast, for what the network cannot change."""
    chosen = Settings(bundle=bundle_folder, **{"journal": "off", "reload_seconds": 0, **settings})
    with TestClient(create_app(chosen), raise_server_exceptions=False) as client:
        yield client


class Service:
    """A process that serves. `log` has what it wrote."""

    def __init__(self, bundle_folder, *, counted=True, **settings):
        chosen = {"bundle": bundle_folder, "port": 0, "journal": "off", **settings}
        env = {**os.environ, **{f"NEOCOG_{name.upper()}": str(value) for name, value in chosen.items()}}
        if not counted:  # its lines, by coverage: that makes it three times as slow, and its memory grow
            env = {name: value for name, value in env.items() if not name.startswith("COVERAGE_")}
        self.process = subprocess.Popen([sys.executable, "-m", "service"], env=env, stderr=subprocess.PIPE, text=True)
        self.log = []
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"running on (http://[\d.:]+)", line):
                self.address = found[1]
                break
        else:
            pytest.fail("the service did not start:\n" + "".join(self.log))
        self._drain = threading.Thread(target=lambda: self.log.extend(self.process.stderr))
        self._drain.start()
        self.http = httpx2.Client(base_url=self.address, timeout=120)
        self.wait_until_ready()

    @property
    def port(self):
        return int(self.address.rpartition(":")[2])

    def wait_until_ready(self):
        """Several workers' port is announced before the first of them listens."""
        for _ in range(2400):
            with contextlib.suppress(httpx2.ConnectError):
                assert self.http.get("/readyz").status_code == 200
                return
            time.sleep(0.05)
        pytest.fail("the service was not ready in time:\n" + "".join(self.log))

    def workers(self):
        """The ids of its worker processes that live."""
        living = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):  # it has ended meanwhile
                if "spawn_main" in " ".join(child.cmdline()):
                    living.append(child.pid)
        return living

    def metric(self, name):
        """The value of a series, written as Prometheus does; 0 where there is none yet."""
        for line in self.http.get("/metrics").text.splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        return 0.0

    def stop(self, with_signal=signal.SIGTERM, within=120):
        """Its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        status = self.process.wait(timeout=within)
        self._drain.join()
        self.process.stderr.close()
        self.http.close()
        return status


@pytest.fixture(scope="session")
def client(bundle_folder):
    with in_process(bundle_folder, max_body_bytes=300_000, max_pixels=1_000_000) as client:
        yield client


@pytest.fixture
def serve(bundle_folder):
    """Starts services with the settings that are given; they are stopped after the test."""
    started = []

    def start(**settings):
        started.append(Service(settings.pop("bundle", bundle_folder), **settings))
        return started[-1]

    yield start
    for service in started:
        if service.process.poll() is None:
            service.stop()


@pytest.fixture(scope="module")
def service(bundle_folder, tmp_path_factory):
    """A process that serves with a journal."""
    journal = tmp_path_factory.mktemp("journal") / "journal.db"
    running = Service(bundle_folder, journal=f"sqlite:///{journal}")
    yield running
    assert running.stop() == 0
    assert not [line for line in running.log if '"level": "error"' in line]


@pytest.fixture(scope="module")
def http(service):
    """A client of that process."""
    return service.http


@pytest.fixture(scope="module")
def redis():
    server = Redis()
    yield server
    server.kill()
