"""The CycloneDX SBOM of a built image: its Python packages, the base's Debian packages, and the model.

python -m scripts.image.sbom [IMAGE] > sbom.json

Read from the image's own files, so that it lists what is there, and not what should be.
"""

import json
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from email.message import Message
from email.parser import HeaderParser

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from model.bundle import Manifest
from scripts.image.build import docker

MANIFEST = "app/bundle/manifest.json"
PARSER = HeaderParser()  # Python's METADATA and Debian's control files have the form of mail headers
LICENCES = LicenseFactory()


def files(client: str, image: str) -> Iterator[tuple[str, str]]:
    """Names and texts of the files of `image` that say what it is made of."""
    made = subprocess.run([client, "create", image], check=True, capture_output=True, text=True).stdout.strip()
    try:
        with subprocess.Popen([client, "export", made], stdout=subprocess.PIPE) as exporting:
            assert exporting.stdout is not None
            with tarfile.open(fileobj=exporting.stdout, mode="r|") as archive:
                for member in archive:
                    if member.isfile() and _says(member.name) and (file := archive.extractfile(member)):
                        yield member.name, file.read().decode(errors="replace")
    finally:
        subprocess.run([client, "rm", "-v", made], check=True, capture_output=True)


def _says(name: str) -> bool:
    debian = name == "var/lib/dpkg/status" or name.startswith("var/lib/dpkg/status.d/")
    return name == MANIFEST or name.endswith(".dist-info/METADATA") or (debian and not name.endswith(".md5sums"))


def components(found: Iterable[tuple[str, str]]) -> Iterator[Component]:
    """What the files that `files` found declare."""
    for name, text in found:
        if name == MANIFEST:
            yield _model(Manifest.model_validate_json(text))
        elif name.endswith("METADATA"):
            yield _python(PARSER.parsestr(text))
        else:
            yield from (_debian(PARSER.parsestr(part)) for part in text.split("\n\n") if "Package:" in part)


def _python(said: Message) -> Component:
    name, version = said["Name"], said["Version"]
    licence = said["License-Expression"] or (said["License"] or "").splitlines()[:1] or None
    url = PackageURL("pypi", None, name.lower().replace("_", "-"), version)
    return Component(
        name=name,
        version=version,
        purl=url,
        bom_ref=url.to_string(),
        licenses=[LICENCES.make_from_string(licence if isinstance(licence, str) else licence[0])] if licence else None,
    )


def _debian(said: Message) -> Component:
    name, version = said["Package"], said["Version"]
    url = PackageURL("deb", "debian", name, version, {"arch": said["Architecture"]})
    return Component(name=name, version=version, purl=url, bom_ref=url.to_string())


def _model(manifest: Manifest) -> Component:
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model-{manifest.version}",
        name=manifest.name,
        version=manifest.version,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=manifest.sha256["model"])],
        properties=[
            Property(name="neocog:data.sha256", value=manifest.sha256["data"]),
            Property(name="neocog:params.sha256", value=manifest.sha256["params"]),
            Property(name="neocog:run", value=manifest.run),
        ],
    )


def sbom(client: str, image: str) -> str:
    """CycloneDX 1.6, in JSON. The same image gives the same text."""
    inspected = json.loads(subprocess.run([client, "inspect", image], check=True, capture_output=True).stdout)[0]
    labels = inspected["Config"]["Labels"] or {}
    found = list(components(files(client, image)))
    bom = Bom(components=found)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_OID, "".join(inspected["RootFS"]["Layers"]))
    bom.metadata.timestamp = datetime.fromisoformat(labels["org.opencontainers.image.created"])
    bom.metadata.component = Component(
        type=ComponentType.CONTAINER,
        name=labels["org.opencontainers.image.title"],
        version=labels["org.opencontainers.image.revision"],
        bom_ref=image,
    )
    bom.register_dependency(bom.metadata.component, found)
    return JsonV1Dot6(bom).output_as_string(indent=2)


if __name__ == "__main__":
    print(sbom(docker(), sys.argv[1] if len(sys.argv) > 1 else "neocog:dev"))
