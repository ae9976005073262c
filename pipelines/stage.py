"""What every stage needs: strict parameters, errors of one line, and files that are never written by half."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines import paths


class StageError(Exception):
    """A stage cannot continue, and the user can fix the reason. It is printed as one line."""


class Params(BaseModel):
    """A stage's section of params.yaml. A subclass names it: `class TrainParams(Params, section="train")`."""

    _section: ClassVar[str]

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init_subclass__(cls, section: str = "", **rest: Any) -> None:
        super().__init_subclass__(**rest)
        cls._section = section

    @classmethod
    def load(cls, file: Path = paths.PARAMS, changes: Mapping[str, object] | None = None) -> Self:
        """The section with `changes`. Raises `StageError`, which names the parameter, its value and what is allowed."""
        try:
            sections = yaml.safe_load(file.read_text())
            values = sections[cls._section] | (changes or {})
        except FileNotFoundError:
            raise StageError(f"{file} is missing; stages run from the repository's root") from None
        except yaml.YAMLError as error:
            raise StageError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
        except (KeyError, TypeError):
            raise StageError(f"{file} has no section '{cls._section}'") from None
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise StageError(f"{file}: {'; '.join(cls._complaints(error))}") from None

    @classmethod
    def _complaints(cls, error: ValidationError) -> Iterator[str]:
        for wrong in error.errors():
            name = ".".join([cls._section, *map(str, wrong["loc"])])
            if wrong["type"] == "extra_forbidden":
                owner: Any = cls
                for part in wrong["loc"][:-1]:
                    owner = owner.model_fields[part].annotation
                yield f"{name} is unknown; known are {', '.join(sorted(owner.model_fields))}"
            elif wrong["type"] == "missing":
                yield f"{name} is missing"
            else:
                message = wrong["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
                yield f"{name} is {wrong['input']!r}, allowed is: {message}"


def run(main: Callable[[], None]) -> None:
    """Runs a stage. A user's mistake ends with one line on stderr and exit code 1, without a traceback."""
    module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    name = module.removeprefix("pipelines.").removesuffix(".__main__")
    try:
        main()
    except StageError as error:
        sys.exit(f"{name}: {error}")
    except FileNotFoundError as error:
        path = Path(str(error.filename))
        if path.is_absolute() or path.parts[0] not in ("data", "out"):
            raise
        sys.exit(f"{name}: {path} is missing; an earlier stage makes it: run dvc repro")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary path to write to. It is renamed to `path` if the block succeeds, and deleted if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    half = Path(name)
    try:
        yield half
        half.chmod(0o644)  # mkstemp's files are the owner's alone
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    with writing(path) as half:
        half.write_text(json.dumps(value, indent=2) + "\n")


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"train": {"seed": 0}} -> {"train.seed": 0}, the form in which MLflow takes parameters and metrics."""
    flattened: dict[str, Any] = {}
    for name, value in values.items():
        flattened |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flattened
