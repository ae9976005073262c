"""Packaging: what is tested is pinned, and the image's extra is small."""

import re
import tomllib

import pytest

from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
PINNED = dict(
    line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")
)
EXTRAS = PROJECT["optional-dependencies"]


def names(requirements):
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize("extra", ["serve", "train", "dev"])
def test_every_dependency_is_pinned(extra):
    known = {name.lower().replace("_", "-") for name in PINNED}
    assert names(EXTRAS[extra]) | names(PROJECT["dependencies"]) <= known


def test_torch_is_pinned_to_the_one_version_everywhere():
    assert "torch==2.13.0" in EXTRAS["train"]
    assert PINNED["torch"] == "2.13.0"


def test_what_the_image_needs_holds_none_of_the_pipelines_tools():
    assert not names(EXTRAS["serve"]) & {"torch", "mlflow", "dvc", "scikit-learn", "scipy", "onnx", "matplotlib"}


def test_every_package_is_declared():
    declared = set(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        str(init.parent.relative_to(REPOSITORY)).replace("/", ".")
        for room in ("journal", "model", "pipelines", "service")
        for init in (REPOSITORY / room).rglob("__init__.py")
    }
    assert declared == found
