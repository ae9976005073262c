"""Builds an image of what is checked out, labelled with all that /version says of it, and prints how large it is.

python -m scripts.image.build [--offline] [--target serving|training] [--tag neocog:dev]
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

from model import bundle
from model.bundle import BundleError, Manifest
from scripts.image.report import report

CHAMPION: Final = Path("out/champion")
PROMOTIONS: Final = Path("promotions.jsonl")
BASES: Final = {"serving": ("BUILDER", "BASE"), "training": ("BUILDER", "RUNTIME")}
OFFLINE: Final = {  # scripts/image/bases.sh makes them
    "serving": {"BUILDER": "neocog-builder", "BASE": "neocog-base"},
    "training": {"BUILDER": "neocog-builder-training", "RUNTIME": "neocog-runtime-training", "TORCH_BACKEND": ""},
}


def main() -> None:
    options = _parse(sys.argv[1:])
    manifest = promoted()
    arguments = identity(manifest) | (OFFLINE[options.target] if options.offline else {})
    client = docker()
    for base in BASES[options.target]:
        if base in os.environ:
            arguments[base] = os.environ[base]
        if base not in arguments:
            arguments[base] = resolved(client, base)
    command = [client, "build", "--target", options.target, "--tag", options.tag, *options.rest, "."]
    for name, value in arguments.items():
        command[2:2] = ["--build-arg", f"{name}={value}"]
    # Newer engines use the last two: the image's time is the commit's, and nothing is attached that has another.
    env = {
        **os.environ,
        "DOCKER_BUILDKIT": "1",
        "SOURCE_DATE_EPOCH": str(commit_time()),
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
    }
    built = subprocess.run(command, env=env, check=False)
    if built.returncode:
        sys.exit(f"image: docker build ended with {built.returncode}")
    if options.target == "serving":
        print(report(client, options.tag, base=arguments["BASE"]))
    print(f"image: {options.tag} has bundle {manifest.version}, built of {arguments['REVISION']}")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="image", description="What follows -- goes to docker build.")
    parser.add_argument("--offline", action="store_true", help="from the bases of scripts/image/bases.sh")
    parser.add_argument("--target", choices=("serving", "training"), default="serving")
    parser.add_argument("--tag")
    parser.add_argument("rest", nargs="*")
    options = parser.parse_args(arguments)
    options.tag = options.tag or ("neocog:dev" if options.target == "serving" else "neocog-training:dev")
    return options


def resolved(client: str, base: str) -> str:
    """The Dockerfile's default for `base`, pulled, by the digest it has today: the label says what was built on."""
    default = re.search(rf"^ARG {base}=(\S+)", Path("Dockerfile").read_text(), re.MULTILINE)
    assert default is not None
    if subprocess.run([client, "pull", "--quiet", default[1]], stdout=subprocess.DEVNULL, check=False).returncode:
        sys.exit(f"image: {default[1]} cannot be pulled; where there is no registry: `make image-offline`")
    command = [client, "image", "inspect", "--format", "{{ index .RepoDigests 0 }}", default[1]]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def docker() -> str:
    """The Docker client; exits with what is missing."""
    found = subprocess.run(["scripts/image/docker.sh"], stdout=subprocess.PIPE, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else sys.exit(found.returncode)


def promoted() -> Manifest:
    """The champion's manifest; exits unless it is the bundle that the gate promoted last."""
    try:
        manifest = bundle.read(CHAMPION)
    except BundleError as error:
        sys.exit(f"image: {error}; `dvc repro` makes one")
    last = PROMOTIONS.read_text().splitlines()[-1:] if PROMOTIONS.exists() else []
    said = json.loads(last[0])["model"] if last else "nothing"
    if said != manifest.version:
        sys.exit(f"image: {CHAMPION} is {manifest.version}, but the last that {PROMOTIONS} let pass is {said}")
    return manifest


def identity(manifest: Manifest) -> dict[str, str]:
    """The build arguments that become labels. Their time is the commit's, so that a commit has one image."""
    revision = os.environ.get("NEOCOG_REVISION") or _git("rev-parse", "HEAD") or "unknown"
    if _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock", ":!promotions.jsonl"):
        revision += "-dirty"
    created = datetime.datetime.fromtimestamp(commit_time(), datetime.UTC)
    return {
        "VERSION": tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"],
        "REVISION": revision,
        "CREATED": created.isoformat().replace("+00:00", "Z"),
        "BUNDLE": manifest.version,
        "BUNDLE_MODEL": manifest.sha256["model"],
        "BUNDLE_DATA": manifest.sha256["data"],
        "BUNDLE_PARAMS": manifest.sha256["params"],
        "BUNDLE_REVISION": manifest.git_revision or "unknown",
        "BUNDLE_RUN": manifest.run,
    }


def commit_time() -> int:
    """Seconds since 1970, as SOURCE_DATE_EPOCH would have it, or of the commit."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct") or 0)


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


if __name__ == "__main__":
    main()
