"""What the measurements share on the command line: arguments, and errors of one line. It has no command of its own."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from model.bundle import BundleError
from pipelines.ingest import SHA256
from pipelines.stage import StageError

CHAMPION = "out/champion"


class Parser(argparse.ArgumentParser):
    """Prints the docstring of a measurement as its help, and a wrong argument as one line."""

    def __init__(self, name: str, docstring: str | None) -> None:
        super().__init__(
            prog=f"python -m bench.{name}",
            description=docstring,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def run(main: Callable[[], None]) -> None:
    """Runs a measurement. A user's mistake ends with one line on stderr and exit code 1, without a traceback."""
    try:
        main()
    except (BundleError, StageError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")


def bundle(text: str) -> Path:
    """The type of an argument that names a bundle. Returns an absolute path."""
    folder = Path(text)
    if not (folder / "model.onnx").is_file():
        raise argparse.ArgumentTypeError(f"{folder} holds no bundle; `dvc repro` makes {CHAMPION}")
    return folder.resolve()


def mnist(text: str) -> Path:
    """The type of an argument that names the folder with MNIST's four files. Returns an absolute path."""
    folder = Path(text)
    if missing := [name for name in SHA256 if not (folder / name).is_file()]:
        raise argparse.ArgumentTypeError(f"{folder} holds no {missing[0]}; needed are {', '.join(SHA256)}")
    return folder.resolve()


def file(text: str) -> Path:
    """The type of an argument that names a file."""
    if not (path := Path(text)).is_file():
        raise argparse.ArgumentTypeError(f"{path} is not a file")
    return path


def count(text: str) -> int:
    """The type of an argument that counts something."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """The type of an argument that is a duration."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0, at most 3600")
    return value
