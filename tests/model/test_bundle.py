"""A bundle is complete and unaltered, or it is refused with the reason."""

import json

import pytest

from model import bundle
from model.bundle import BundleError
from model.hashing import sha256
from tests.bundles import make_bundle


@pytest.fixture
def folder(tmp_path):
    make_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_bundle_is_read_as_it_was_written(folder):
    manifest = bundle.read(folder)
    assert manifest.version == manifest.sha256["model"][:12] == sha256(folder / "model.onnx")[:12]
    assert sorted(file.name for file in folder.iterdir()) == [
        "golden.npz",
        "manifest.json",
        "model.onnx",
        "reference.npz",
    ]


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "reference.npz", "golden.npz"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"no bundle at .*: {name} is missing"):
        bundle.read(folder)


@pytest.mark.parametrize(
    ("name", "shown"),
    [("model.onnx", "model"), ("golden.npz", "golden.npz"), ("reference.npz", "reference.npz")],
)
def test_an_altered_file_is_named(folder, name, shown):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=f"the {shown} has SHA-256 .*…, the manifest says .*…"):
        bundle.read(folder)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]"])
def test_a_broken_manifest_is_refused_in_one_line(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match="is not a manifest this code reads") as refusal:
        bundle.read(folder)
    assert "\n" not in str(refusal.value)


def test_an_unknown_field_is_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"pickle": "…"}))
    with pytest.raises(BundleError):
        bundle.read(folder)


@pytest.mark.parametrize("change", [{"version": "0" * 12}, {"abstain_below": 2.0}, {"labels": []}, {"temperature": 0}])
def test_an_inconsistent_manifest_is_refused(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(BundleError, match=r"contradicts itself|is not a manifest this code reads"):
        bundle.read(folder)


def test_a_new_bundle_replaces_the_old_one_completely(folder):
    (folder / "left-over").touch()
    make_bundle(folder, run="another-run")
    assert bundle.read(folder).run == "another-run"
    assert not (folder / "left-over").exists()
    assert [entry.name for entry in folder.parent.iterdir()] == ["bundle"]


def test_a_failed_write_leaves_the_old_bundle(folder):
    with pytest.raises(ValueError, match="temperature"):
        make_bundle(folder, temperature="hot")
    assert bundle.read(folder).run == "a-run"
    assert [entry.name for entry in folder.parent.iterdir()] == ["bundle"]
