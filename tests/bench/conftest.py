"""Measurements with a tiny budget: what they print, never how fast anything was."""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import command
from tests.bundles import make_bundle


@dataclass
class Ran:
    """How a measurement ended, and what it printed."""

    code: object
    out: str
    err: str


@pytest.fixture
def measure(monkeypatch, capsys):
    """Runs `python -m bench.<name>` with arguments, in this process."""

    def run(name: str, *arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", [f"bench/{name}.py", *map(str, arguments)])
        code: object = 0
        try:
            command.run(importlib.import_module(f"bench.{name}").main)
        except SystemExit as ended:
            code = ended.code
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    make_bundle(folder)
    return folder
