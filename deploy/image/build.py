"""Builds an image of the checkout, with labels that say what /version says, and prints its size.

python -m deploy.image.build [--offline] [--target serving|training] [--tag neocog:dev]
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
from urllib.parse import urlsplit

from deploy.image.report import report
from model import bundle
from model.bundle import BundleError, Manifest
from pipelines.provenance import git_dirty

CHAMPION: Final = Path("out/champion")
PROMOTIONS: Final = Path("promotions.jsonl")
BASES: Final = {"serving": ("BUILDER", "BASE"), "training": ("BUILDER", "RUNTIME")}
OFFLINE_TARGETS: Final = {"serving": "image-offline", "training": "image-training-offline"}  # of make
OFFLINE: Final = {  # made by deploy/image/bases.sh
    "serving": {"BUILDER": "neocog-builder", "BASE": "neocog-base"},
    "training": {"BUILDER": "neocog-builder-training", "RUNTIME": "neocog-runtime-training", "TORCH_BACKEND": ""},
}


def main() -> None:
    options = _parse(sys.argv[1:])
    manifest = promoted() if options.target == "serving" else None
    arguments = (
        identity() | (bundled(manifest) if manifest else {}) | (OFFLINE[options.target] if options.offline else {})
    )
    client = docker()
    for base in BASES[options.target]:
        if base in os.environ:
            arguments[base] = os.environ[base]
        if base not in arguments:
            arguments[base] = resolved(client, base, offline=OFFLINE_TARGETS[options.target])
    command = [client, "build", "--target", options.target, "--tag", options.tag]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    if address := source():
        command += ["--label", f"org.opencontainers.image.source={address}"]
    command += [*options.rest, "."]
    # Newer engines use the last two: the image gets the commit's time, and no attestation with another time is added.
    env = {
        **os.environ,
        "DOCKER_BUILDKIT": "1",
        "SOURCE_DATE_EPOCH": str(commit_time()),
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
    }
    built = subprocess.run(command, env=env, check=False)
    if built.returncode:
        sys.exit(f"image: docker build failed with exit code {built.returncode}")
    if manifest:
        print(report(client, options.tag, base=arguments["BASE"]))
    what = f"has bundle {manifest.version}" if manifest else "runs the pipeline"
    print(f"image: {options.tag} {what}, built from {arguments['REVISION']}")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="image", description="Arguments after -- go to docker build.")
    parser.add_argument("--offline", action="store_true", help="build on the bases that deploy/image/bases.sh made")
    parser.add_argument("--target", choices=("serving", "training"), default="serving")
    parser.add_argument("--tag")
    parser.add_argument("rest", nargs="*")
    options = parser.parse_args(arguments)
    options.tag = options.tag or ("neocog:dev" if options.target == "serving" else "neocog-training:dev")
    return options


def public(base: str) -> str:
    """The image that the Dockerfile builds on unless the argument `base` is given: its default names a stage."""
    dockerfile = Path("Dockerfile").read_text()
    stage = re.search(rf"^ARG {base}=(\S+)$", dockerfile, re.MULTILINE)
    image = stage and re.search(rf"^FROM (\S+) AS {re.escape(stage[1])}$", dockerfile, re.MULTILINE)
    if not image:
        sys.exit(
            f"image: the Dockerfile has no stage for {base}; `ARG {base}=STAGE` and `FROM IMAGE AS STAGE` are needed"
        )
    return image[1]


def resolved(client: str, base: str, *, offline: str) -> str:
    """The public image for `base`, pulled, by its digest of today, so that the label names what was built on.

    Exits if it cannot be pulled; `offline` is the make target that needs no registry.
    """
    image = public(base)
    if subprocess.run([client, "pull", "--quiet", image], stdout=subprocess.DEVNULL, check=False).returncode:
        sys.exit(f"image: {image} cannot be pulled; without a registry: `make {offline}`")
    command = [client, "image", "inspect", "--format", "{{ index .RepoDigests 0 }}", image]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def source() -> str:
    """The repository's address on the web: GitHub's in its workflows, or of the remote `origin`; empty if unknown.

    A user name or token in the remote's address is left out.
    """
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}"
    remote = re.sub(r"^[^/@]+@([^/:]+):", r"ssh://\1/", _git("remote", "get-url", "origin"))  # git@HOST:PATH
    parts = urlsplit(remote)
    known = parts.scheme in ("http", "https", "ssh") and parts.hostname
    return f"https://{parts.hostname}{parts.path.removesuffix('/').removesuffix('.git')}" if known else ""


def docker() -> str:
    """The Docker client. Exits with a line that says what is missing."""
    found = subprocess.run(["deploy/image/docker.sh"], stdout=subprocess.PIPE, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else sys.exit(found.returncode)


def promoted() -> Manifest:
    """The champion's manifest. Exits unless it is the bundle that the gate promoted last."""
    try:
        manifest = bundle.read(CHAMPION)
    except BundleError as error:
        sys.exit(f"image: {error}; `dvc repro` makes one")
    last = PROMOTIONS.read_text().splitlines()[-1:] if PROMOTIONS.exists() else []
    said = json.loads(last[0])["model"] if last else "none"
    if said != manifest.version:
        sys.exit(f"image: {CHAMPION} is {manifest.version}, but the last model in {PROMOTIONS} is {said}")
    return manifest


def identity() -> dict[str, str]:
    """The build arguments that say which code this is. The time is the commit's, so one commit gives one image."""
    revision = os.environ.get("NEOCOG_REVISION") or _git("rev-parse", "HEAD") or "unknown"
    if git_dirty():
        revision += "-dirty"
    created = datetime.datetime.fromtimestamp(commit_time(), datetime.UTC)
    return {
        "VERSION": tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"],
        "REVISION": revision,
        "CREATED": created.isoformat().replace("+00:00", "Z"),
    }


def bundled(manifest: Manifest) -> dict[str, str]:
    """The build arguments that say which bundle is in the image."""
    return {
        "BUNDLE": manifest.version,
        "BUNDLE_MODEL": manifest.sha256["model"],
        "BUNDLE_DATA": manifest.sha256["data"],
        "BUNDLE_PARAMS": manifest.sha256["params"],
        "BUNDLE_REVISION": manifest.git_revision or "unknown",
        "BUNDLE_RUN": manifest.run,
    }


def commit_time() -> int:
    """Seconds since 1970: SOURCE_DATE_EPOCH, or the commit's time."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct") or 0)


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


if __name__ == "__main__":
    main()
