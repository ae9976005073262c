"""Prints the requirements of the extras that are named, without the project itself: pip can't install only those."""

import sys
import tomllib
from pathlib import Path


def requirements(extras: list[str]) -> list[str]:
    """Exits where pyproject.toml has no such extra."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    known: dict[str, list[str]] = project["optional-dependencies"]
    if unknown := set(extras) - set(known):
        sys.exit(f"requirements: no extra {', '.join(sorted(unknown))}, pyproject.toml has {', '.join(known)}")
    return sorted({*project["dependencies"], *(line for extra in extras for line in known[extra])})


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
