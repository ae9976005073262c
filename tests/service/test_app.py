"""No verified model, no start; and what is wrong is said in one line."""

import os
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def started(*command, **env):
    return subprocess.run(
        [sys.executable, "-m", *command], env={**os.environ, **env}, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("command", [["service"], ["uvicorn", "service.app:app", "--port", "0"]])
def test_without_a_bundle_it_does_not_start(tmp_path, command):
    ran = started(*command, NEOCOG_BUNDLE=str(tmp_path / "none"), NEOCOG_PORT="0")
    assert ran.returncode == 3
    assert f"no bundle at {tmp_path}/none: manifest.json is missing" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_with_an_altered_bundle_it_does_not_start(tmp_path, bundle_folder):
    altered = tmp_path / "bundle"
    altered.mkdir()
    for file in bundle_folder.iterdir():
        (altered / file.name).write_bytes(file.read_bytes())
    with (altered / "model.onnx").open("ab") as model:
        model.write(b"\0")
    ran = started("service", NEOCOG_BUNDLE=str(altered), NEOCOG_PORT="0")
    assert ran.returncode == 3
    assert "the model has SHA-256" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("NEOCOG_PORT", "http", "NEOCOG_PORT is 'http', allowed is: a valid integer"),
        ("NEOCOG_PORT", "70000", "NEOCOG_PORT is '70000', allowed is: less than or equal to 65535"),
        ("NEOCOG_MAX_PIXELS", "0", "NEOCOG_MAX_PIXELS is '0', allowed is: greater than or equal to 1"),
    ],
)
def test_a_wrong_setting_is_one_line(name, value, said):
    ran = started("service", **{name: value})
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"neocog: {said}")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["NEOCOG_PORT", "NEOCOG_PROBE_PORT"])
def test_a_port_that_is_taken_is_named(bundle_folder, name):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = {"NEOCOG_BUNDLE": str(bundle_folder), "NEOCOG_JOURNAL": "off", "NEOCOG_PORT": "0", name: str(port)}
        ran = started("service", **settings)
    assert ran.returncode in (1, 3)
    assert f"{name} is {port}, and 127.0.0.1:{port} cannot be had: Address already in use" in ran.stderr
    assert "Traceback" not in ran.stderr
