"""How large an image is, layer by layer, unpacked and compressed. `python -m deploy.image.report IMAGE [BASE]`"""

import gzip
import json
import subprocess
import sys
import tarfile
from typing import NamedTuple


class Layer(NamedTuple):
    """Sizes in bytes. `unpacked` is that of the files, `compressed` what travels (gzip, level 6)."""

    digest: str  # of the uncompressed tar, as in the image's RootFS
    what: str
    unpacked: int
    compressed: int


def layers(client: str, image: str) -> list[Layer]:
    """Of the local image, the lowest first."""
    with subprocess.Popen([client, "save", image], stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        blobs: dict[str, tuple[int, int]] = {}
        documents: dict[str, bytes] = {}
        with tarfile.open(fileobj=saving.stdout, mode="r|") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is None:
                    continue
                if member.name.endswith(".json") or member.size < 1_000_000:
                    documents[member.name] = file.read()
                    blobs[member.name] = _sizes(documents[member.name])
                else:
                    blobs[member.name] = _sizes(file.read())
    manifest = json.loads(documents["manifest.json"])[0]
    config = json.loads(documents[manifest["Config"]])
    made = [step.get("created_by", "the base") for step in config["history"] if not step.get("empty_layer")]
    steps = ["the base"] * (len(manifest["Layers"]) - len(made)) + made
    digests = config["rootfs"]["diff_ids"]
    return [Layer(d, s, *blobs[name]) for d, s, name in zip(digests, steps, manifest["Layers"], strict=True)]


def _sizes(data: bytes) -> tuple[int, int]:
    """Of a layer's tar, its files and its gzip."""
    if data[:2] == b"\x1f\x8b":
        return len(gzip.decompress(data)), len(data)
    return len(data), len(gzip.compress(data, 6))


def report(client: str, image: str, *, base: str | None) -> str:
    """A table in Markdown; with `base`, what is above it is added up."""
    found = layers(client, image)
    below = {layer.digest for layer in layers(client, base)} if base else set()
    rows = ["| layer | MB unpacked | MB compressed |", "|---|---:|---:|"]
    for layer in found:
        name = "base" if layer.digest in below else layer.what.removesuffix(" # buildkit")
        rows.append(f"| `{name[:60]}` | {layer.unpacked / 1e6:.1f} | {layer.compressed / 1e6:.1f} |")
    above = [layer for layer in found if layer.digest not in below]
    unpacked, compressed = sum(layer.unpacked for layer in above), sum(layer.compressed for layer in above)
    rows.append(f"| {'above the base' if base else 'together'} | {unpacked / 1e6:.1f} | {compressed / 1e6:.1f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(report("docker", sys.argv[1], base=sys.argv[2] if len(sys.argv) > 2 else None))
