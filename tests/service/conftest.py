"""The service, in this process and as a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading

import httpx2
import pytest
from fastapi.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.bundles import make_bundle


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service") / "bundle"
    make_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def client(bundle_folder):
    """The application without a network: fast, for what the network cannot change."""
    settings = Settings(bundle=bundle_folder, max_body_bytes=300_000, max_pixels=1_000_000)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def address(bundle_folder):
    """Where a real process serves."""
    env = {**os.environ, "NEOCOG_BUNDLE": str(bundle_folder), "NEOCOG_PORT": "0"}
    process = subprocess.Popen([sys.executable, "-m", "service"], env=env, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if found := re.search(r"running on (http://\S+)", line):
            break
    else:
        pytest.fail("the service did not start")
    drain = threading.Thread(target=process.stderr.read)
    drain.start()
    yield found[1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) in (0, -signal.SIGTERM)
    drain.join()
    process.stderr.close()


@pytest.fixture(scope="module")
def http(address):
    """A client of that process."""
    with httpx2.Client(base_url=address) as client:
        yield client
