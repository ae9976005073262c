"""A bundle is complete and unaltered, or it is refused with the reason."""

import json
import os
import re
import resource
import shutil
import socket
from pathlib import Path

import pytest

from model import bundle
from model.bundle import BundleError, UnreadableBundleError
from model.hashing import sha256
from model.threads import Threads
from tests.bundles import linear_model, make_bundle


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


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "reference.npz", "golden.npz"])
def test_a_file_that_is_too_large_is_refused_unread(folder, name):
    with (folder / name).open("wb") as file:
        file.truncate(2**40)  # it takes no room, but reading it would
    with pytest.raises(BundleError, match=rf"{name} has 1,099,511,627,776 bytes, at most [\d,]+ are read"):
        bundle.read(folder)


def fifo(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (fifo, "is prw.*, not a regular file"),
        (listening, "is srw.*, not a regular file"),
        (Path.mkdir, "is drw.*, not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is crw.*, not a regular file"),
    ],
)
@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "reference.npz", "golden.npz"])
def test_what_is_no_file_is_refused_at_once(folder, name, make, said):
    (folder / name).unlink()
    make(folder / name)
    raised = Threads(1, "reading").submit(bundle.read, folder).exception(timeout=120)
    assert isinstance(raised, BundleError)
    assert re.search(said, str(raised))


def test_files_of_two_bundles_are_refused(folder):
    make_bundle(folder.with_name("other"), model=linear_model(1.0))
    shutil.copy(folder.with_name("other") / "model.onnx", folder)
    with pytest.raises(BundleError, match="the model has SHA-256"):
        bundle.read(folder)


def test_a_reason_that_may_pass_is_told_from_a_bad_bundle(folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # no more files can be opened
    try:
        with pytest.raises(UnreadableBundleError, match="Too many open files"):
            bundle.read(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert bundle.read(folder).run == "a-run"


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
