"""Every measurement is called in the same way."""

import ast
import importlib
import re

import pytest

from bench import command
from model.bundle import BundleError
from pipelines.stage import StageError
from tests.conftest import REPOSITORY

MODULES = sorted((REPOSITORY / "bench").glob("*.py"))
COMMANDS = [path.stem for path in MODULES if "\ndef main()" in path.read_text()]
LIBRARIES = [path.stem for path in MODULES if path.stem not in COMMANDS]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_prints_the_docstring_and_its_command(measure, name):
    ran = measure(name, "--help")
    assert ran.code == 0
    docstring = importlib.import_module(f"bench.{name}").__doc__
    assert re.search(rf"^    python -m bench\.{name}\b", docstring, re.MULTILINE)
    assert docstring.strip() in ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_argument_gives_one_line(measure, name):
    ran = measure(name, "--wrong")
    assert ran.code == 2
    assert ran.err.startswith(f"python -m bench.{name}: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_module_without_a_command_says_so(name):
    assert "t has no command of its own." in importlib.import_module(f"bench.{name}").__doc__


@pytest.mark.parametrize(("name", "arguments", "message"), [
    ("abuse", ["--seconds", "0"], "argument --seconds: '0' is not a number of seconds above 0, at most 3600"),
    ("abuse", ["--seconds", "nan"], "argument --seconds: 'nan' is not a number of seconds above 0, at most 3600"),
    ("forms", ["--rounds", "-1"], "argument --rounds: '-1' is not a whole number of 1 or more"),
    ("abuse", ["--bundle", "nowhere"], "argument --bundle: nowhere holds no bundle; `dvc repro` makes out/champion"),
    ("handwriting", ["--pen", "nowhere"], "argument --pen: nowhere is not a file"),
])  # fmt: skip
def test_an_error_names_the_value_and_what_is_allowed(measure, name, arguments, message):
    assert measure(name, *arguments).err == f"python -m bench.{name}: {message}\n"


@pytest.mark.parametrize("name", ["ablation", "training", "lineup"])
def test_a_folder_without_mnist_is_refused(measure, tmp_path, name):
    ran = measure(name, tmp_path)
    assert ran.code == 2
    assert f"argument mnist: {tmp_path} holds no train-images-idx3-ubyte.gz; needed are train-images" in ran.err


@pytest.mark.parametrize(("error", "line"), [
    (BundleError("the bundle is altered"), "bench: the bundle is altered"),
    (StageError("the file is truncated"), "bench: the file is truncated"),
    (KeyboardInterrupt(), "bench: interrupted"),
])  # fmt: skip
def test_a_mistake_ends_with_one_line(error, line):
    def main():
        raise error

    with pytest.raises(SystemExit, match=f"^{line}$"):
        command.run(main)


@pytest.mark.parametrize("path", [*MODULES, *(REPOSITORY / "docs").glob("*.py")], ids=lambda path: path.stem)
def test_nothing_imports_from_tests(path):
    nodes = list(ast.walk(ast.parse(path.read_text())))
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not [module for module in modules if module.split(".")[0] == "tests"]
