"""The CycloneDX SBOM of a built image: its Python packages, the base's Debian packages, and the model.

python -m deploy.image.sbom [IMAGE] > sbom.json

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

from deploy.image.build import docker
from model.bundle import Manifest

MANIFEST = "app/bundle/manifest.json"
SYSTEM = "usr/lib/os-release"
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
    if name.startswith("var/lib/dpkg/status"):
        return not name.endswith(("-old", ".md5sums"))
    return name in {MANIFEST, SYSTEM} or name.endswith(".dist-info/METADATA")


def components(found: Iterable[tuple[str, str]]) -> Iterator[Component]:
    """What the files that `files` found declare. Raises `KeyError` where they don't say which Debian it is."""
    texts = dict(found)
    system = dict(line.split("=", 1) for line in texts.pop(SYSTEM).replace('"', "").splitlines() if "=" in line)
    yield _system(system)
    for name, text in texts.items():
        if name == MANIFEST:
            yield _model(Manifest.model_validate_json(text))
        elif name.endswith("METADATA"):
            yield _python(PARSER.parsestr(text))
        else:
            parts = (PARSER.parsestr(part) for part in text.split("\n\n") if "Package:" in part)
            yield from (_debian(part, system["VERSION_ID"]) for part in parts)


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


def _debian(said: Message, release: str) -> Component:
    """With its release and its source package, by which Debian's advisories go: scanners find nothing without them."""
    name, version = said["Package"], said["Version"]
    source, _, other = (said["Source"] or name).partition(" ")
    upstream = f"{source}@{other.strip('()')}" if other else source
    qualifiers = {"arch": said["Architecture"], "distro": f"debian-{release}", "upstream": upstream}
    url = PackageURL("deb", "debian", name, version, qualifiers)
    return Component(name=name, version=version, purl=url, bom_ref=url.to_string())


def _system(said: dict[str, str]) -> Component:
    name, version = said["ID"], said["VERSION_ID"]
    return Component(type=ComponentType.OPERATING_SYSTEM, name=name, version=version, bom_ref=f"{name}-{version}")


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
