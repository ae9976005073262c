"""`make settings`: names the ConfigMap in k8s/ by a hash of its content, and tells the Deployment."""

import hashlib
import json
import re
from pathlib import Path
from typing import Final

import yaml

CONFIGMAP: Final = Path("k8s/20-configmap.yaml")
DEPLOYMENT: Final = Path("k8s/30-deployment.yaml")
_NAME: Final = re.compile(r"neocog-settings-\w+")


def name(data: dict[str, str]) -> str:
    """What a ConfigMap of these settings is called."""
    return "neocog-settings-" + hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]


def main() -> None:
    wanted = name(yaml.safe_load(CONFIGMAP.read_text())["data"])
    for file in (CONFIGMAP, DEPLOYMENT):
        file.write_text(_NAME.sub(wanted, file.read_text()))
    print(f"settings: {wanted}")


if __name__ == "__main__":
    main()
