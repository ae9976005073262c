"""Whether what runs in the cluster is what was built, and reads what it should.

python -m deploy.cluster.verify

Asks through the Service. /version must name out/champion and the commit of this checkout. samples/ must be read without
an error. Where the pipeline has left its data, every held-out digit of the test split is asked about, too, and the
number of errors must be the one that the gate saw.
"""

import base64
import io
import subprocess
import sys
from pathlib import Path

from PIL import Image

from deploy.cluster.api import Cluster, one_line
from model import bundle
from model.bundle import BundleError, Manifest
from model.canonical import Pixels
from pipelines import paths
from pipelines.artefacts import Prepared, Source, Split

BATCH = 128


@one_line("verify")
def main() -> None:
    try:
        champion = bundle.read(Path("out/champion"))
    except BundleError as error:
        sys.exit(f"verify: {error}")
    verify(Cluster(), champion)


def verify(cluster: Cluster, manifest: Manifest) -> None:
    """Exits with 1 and a line for each thing that is wrong."""
    wrong = []
    said = cluster.ask("GET", "/version")
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    for name, got, expected in (
        ("the bundle", said["version"], manifest.version),
        ("the model's SHA-256", said["sha256"]["model"], manifest.sha256["model"]),
        ("the revision", (said["service"]["revision"] or "").removesuffix("-dirty"), revision),
    ):
        if got != expected:
            wrong.append(f"{name} in the cluster is {got}, built was {expected}")
    samples = sorted(Path("samples").glob("*.png"))
    for sample in samples:
        answer = cluster.ask("POST", "/predict", sample.read_bytes())
        if not sample.stem.endswith(str(answer["digit"])):
            wrong.append(f"{sample} is read as {answer['digit']}")
    asked = len(samples)
    if paths.PREPARED.exists() and paths.RAW.exists():
        prepared, source = Prepared.load(paths.PREPARED), Source.load(paths.RAW)
        rows = prepared.rows[prepared.splits == Split.TEST]
        images, labels = source.images[rows], source.labels[rows]
        read = [digit for i in range(0, len(images), BATCH) for digit in _read(cluster, images[i : i + BATCH])]
        errors = sum(digit != label for digit, label in zip(read, labels, strict=True))
        asked += len(images)
        if errors != manifest.metrics["errors"]:
            wrong.append(f"{errors} held-out digits are misread; at the gate it was {manifest.metrics['errors']:g}")
    for line in wrong:
        print(f"verify: {line}", file=sys.stderr)
    if wrong:
        sys.exit(1)
    print(f"verify: bundle {manifest.version} of {revision[:12]} runs, and read {asked} pictures as it should")


def _read(cluster: Cluster, images: Pixels) -> list[int]:
    sent = [base64.b64encode(_png(image)).decode() for image in images]
    answer = cluster.ask("POST", "/predict/batch", {"images": sent})
    return [entry["digit"] for entry in answer["predictions"]]


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    main()
