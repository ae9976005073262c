"""What a deployment may have to put back, written before it changes anything.

python -m deploy.cluster.snapshot FOLDER

FOLDER has `manifests.yaml`, what will be applied, and `found.json`, what `kubectl get` says of these objects now. Files
that would be empty are not written:
  service.json   the Deployment as it was applied last, with the pods that it has now: releases change the image alone
  others.json    every other object as it was applied last
  new.json       what is not in the cluster yet; never a Namespace, since it may hold Secrets of somebody else
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml

APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"

Manifest = dict[str, Any]
Name = tuple[str, str, str]


def name(manifest: Manifest) -> Name:
    meta = manifest["metadata"]
    return manifest["kind"], meta.get("namespace", ""), meta["name"]


def split(planned: list[Manifest], found: list[Manifest]) -> dict[str, list[Manifest]]:
    """The objects for each file, by its name. An object that `kubectl apply` did not make has nothing to go back to."""
    known = {name(live) for live in found}
    files: dict[str, list[Manifest]] = {"service": [], "others": [], "new": []}
    files["new"] = [one for one in planned if name(one) not in known and one["kind"] != "Namespace"]
    for live in found:
        applied = live["metadata"].get("annotations", {}).get(APPLIED)
        if applied is None:
            print(
                f"deploy: {'/'.join(name(live))} was not made by kubectl apply; it can't be put back", file=sys.stderr
            )
            continue
        before = json.loads(applied)
        if live["kind"] == "Deployment":
            before["spec"]["template"] = live["spec"]["template"]
        files["service" if live["kind"] == "Deployment" else "others"].append(before)
    return files


def main(folder: Path) -> None:
    planned = [one for one in yaml.safe_load_all((folder / "manifests.yaml").read_text()) if one]
    text = (folder / "found.json").read_text()
    found = json.loads(text) if text.strip() else {"items": []}  # kubectl prints nothing where it finds nothing
    for file, objects in split(planned, found.get("items", [found])).items():
        if objects:
            listed = {"apiVersion": "v1", "kind": "List", "items": objects}
            (folder / f"{file}.json").write_text(json.dumps(listed, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
