"""Digits from scikit-learn or MNIST: files are verified, kept, and never partial."""

import gzip
import http.server
import shutil
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from model.canonical import canonical
from model.canonical.images import decode
from model.hashing import sha256
from pipelines import ingest
from pipelines.stage import StageError


def test_scikit_learns_digits_are_complete():
    source = ingest.digits()
    assert source.images.shape == (1797, 8, 8)
    assert source.images.dtype == np.uint8
    assert source.images.max() == 255
    assert np.bincount(source.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert not source.is_test.any()


def picture(file, size, ink=0, **options):
    image = Image.new("L", size, 255)
    ImageDraw.Draw(image).rectangle((2, 2, 5, 9), fill=ink)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file, **options)


@pytest.fixture
def letters(tmp_path):
    """Two labels, pictures of several formats and sizes, and files that are no pictures but hidden."""
    picture(tmp_path / "B" / "1.jpg", (12, 20))
    picture(tmp_path / "A" / "2.png", (30, 14))
    picture(tmp_path / "A" / "10.webp", (12, 20))
    (tmp_path / "A" / ".DS_Store").write_bytes(b"no picture")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README.txt").write_text("beside the labels")
    return tmp_path


def test_a_folder_has_one_subfolder_of_pictures_for_each_label(letters):
    source = ingest.folder(letters)
    assert source.classes == ("A", "B")
    assert source.labels.tolist() == [0, 0, 1]
    assert [image.shape for image in source.images] == [(20, 12), (14, 30), (20, 12)]
    assert {image.dtype for image in source.images} == {np.dtype(np.uint8)}
    assert list(source.files) == [str(letters / name) for name in ("A/10.webp", "A/2.png", "B/1.jpg")]
    assert source.provenance["source"] == "folder"
    assert not source.is_test.any()


def test_pictures_are_read_as_the_service_reads_them(letters):
    source = ingest.folder(letters)
    for file, image in zip(source.files, source.images, strict=True):
        assert np.array_equal(canonical(decode(Path(file).read_bytes())), canonical(image))


def test_pictures_of_one_size_are_one_array(tmp_path):
    for name in ("A/1.png", "B/1.png"):
        picture(tmp_path / name, (12, 20))
    assert ingest.folder(tmp_path).images.shape == (2, 20, 12)


def test_a_folder_that_is_missing_or_has_no_labels_is_refused(tmp_path):
    with pytest.raises(StageError, match=r"^data\.folder: .*/nowhere is not a folder$"):
        ingest.folder(tmp_path / "nowhere")
    (tmp_path / "A").mkdir()
    with pytest.raises(StageError, match=r"has 1 subfolders; needed is one for each label, from 2 to 255$"):
        ingest.folder(tmp_path)
    (tmp_path / "B").mkdir()
    with pytest.raises(StageError, match=r"^data\.folder: the subfolders of .* hold no pictures$"):
        ingest.folder(tmp_path)
    (tmp_path / "what is this?").mkdir()
    with pytest.raises(StageError, match=r"'what is this\?' cannot be a label; allowed are letters, digits, - and _$"):
        ingest.folder(tmp_path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda file: file.write_text("text"), "not an image in a format read here: PNG, JPEG"),
        (lambda file: file.mkdir(), "Is a directory"),
    ],
    ids=["text", "folder"],
)
def test_a_file_that_is_no_picture_is_named(letters, make, reason):
    make(letters / "B" / "0.png")
    with pytest.raises(StageError, match=rf"B/0\.png is not a picture that can be used: {reason}") as refusal:
        ingest.folder(letters)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            ("digits", "files", None),
            "data.mnist_dir has no effect with data.source 'digits'; set data.source to 'mnist'",
        ),
        (("mnist", None, "letters"), "data.folder has no effect with data.source 'mnist'; set data.source to 'folder'"),
        (("folder", None, None), "data.source is 'folder', so data.folder must name the folder"),
    ],
)
def test_a_parameter_without_effect_is_refused_and_a_missing_one_is_named(params, message):
    source, mnist_dir, folder = params
    with pytest.raises(StageError) as refusal:
        ingest.read(ingest.DataParams(source=source, mnist_dir=mnist_dir, folder=folder))
    assert str(refusal.value).startswith(message)


def test_mnist_is_read_from_its_files(shared_mnist):
    ingest.check(shared_mnist)
    source = ingest.mnist(shared_mnist)
    assert source.images.shape == (70_000, 28, 28)
    assert source.is_test.sum() == 10_000
    assert source.is_test[60_000:].all()
    assert source.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert source.labels[60_000:60_010].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_a_missing_file_of_mnist_is_named(tmp_path):
    with pytest.raises(StageError, match=r"data\.mnist_dir: .*train-images-idx3-ubyte\.gz is missing; needed are"):
        ingest.check(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a complete gzip file|is not an IDX file"),
        (b"\x1f\x8b broken", "is not a complete gzip file"),
        (gzip.compress(b"\0\0\x08\x01" + (9).to_bytes(4, "big") + b"abc", mtime=0), "3 bytes for shape .9."),
        (
            gzip.compress(b"\0\0\x0d\x01" + (1).to_bytes(4, "big") + b"abcd", mtime=0),
            "is not an IDX file of unsigned bytes",
        ),
    ],
)
def test_a_broken_idx_file_is_refused(tmp_path, content, message):
    (tmp_path / "x.gz").write_bytes(content)
    with pytest.raises(StageError, match=message):
        ingest.idx(tmp_path / "x.gz")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; the server records the requested paths."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()


@contextmanager
def mirror(folder, handler=Quiet):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder)) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", server.asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A mirror with four small files instead of MNIST's, with their own hashes."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for name in ingest.SHA256:
        (folder / name).write_bytes(gzip.compress(name.encode() * 1000, mtime=0))
    monkeypatch.setattr(ingest, "SHA256", {name: sha256(folder / name) for name in ingest.SHA256})
    return folder


def test_missing_files_are_downloaded_and_existing_ones_kept(tmp_path, small_mnist):
    there, *missing = ingest.SHA256
    (tmp_path / "data").mkdir()
    shutil.copy(small_mnist / there, tmp_path / "data")
    with mirror(small_mnist) as (url, asked):
        ingest.fetch(tmp_path / "data", [url], pause=0)
    assert asked == [f"/{name}" for name in missing]
    ingest.check(tmp_path / "data")


def test_a_truncated_file_is_downloaded_again(tmp_path, small_mnist):
    name = next(iter(ingest.SHA256))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_bytes((small_mnist / name).read_bytes()[:-1])
    with mirror(small_mnist) as (url, _):
        ingest.fetch(tmp_path / "data", [url], pause=0)
    ingest.check(tmp_path / "data")


def test_the_second_mirror_is_used_if_the_first_fails(tmp_path, small_mnist):
    (tmp_path / "empty").mkdir()
    with mirror(tmp_path / "empty") as (bad, asked), mirror(small_mnist) as (good, _):
        ingest.fetch(tmp_path / "data", [bad, good], pause=0)
    assert len(asked) == 4
    ingest.check(tmp_path / "data")


def test_a_wrong_file_is_refused_with_both_hashes_and_removed(tmp_path, small_mnist):
    name = next(iter(ingest.SHA256))
    (small_mnist / name).write_bytes(b"another file")
    with mirror(small_mnist) as (url, asked), pytest.raises(StageError) as refusal:
        ingest.fetch(tmp_path / "data", [url], pause=0)
    assert f"{name} could not be downloaded ({url} sent a file with SHA-256 " in str(refusal.value)
    assert "expected" in str(refusal.value)
    assert len(asked) == ingest.TRIES
    assert list((tmp_path / "data").iterdir()) == []


def test_a_connection_that_ends_early_leaves_no_file(tmp_path, small_mnist):
    class Breaking(Quiet):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"the beginning")
            self.close_connection = True

    with (
        mirror(small_mnist, Breaking) as (url, _),
        pytest.raises(StageError, match=r"the connection ended after 13 of 100,000 bytes"),
    ):
        ingest.fetch(tmp_path / "data", [url], pause=0)
    assert list((tmp_path / "data").iterdir()) == []


def test_an_answer_that_is_not_http_is_refused_in_one_line(tmp_path, small_mnist):
    class Garbage(Quiet):
        def do_GET(self):
            self.wfile.write(b"please log in first\r\n\r\n")
            self.close_connection = True

    with mirror(small_mnist, Garbage) as (url, _), pytest.raises(StageError, match="could not be downloaded"):
        ingest.fetch(tmp_path / "data", [url], pause=0)
    assert list((tmp_path / "data").iterdir()) == []


def test_without_a_network_the_error_says_what_to_do(tmp_path, small_mnist):
    with mirror(small_mnist) as (url, _):
        pass  # closed, so nothing listens there
    with pytest.raises(StageError) as refusal:
        ingest.fetch(tmp_path / "data", [url], pause=0)
    assert "Connection refused" in str(refusal.value)
    assert "without a network use data.source: digits" in str(refusal.value)
    assert "\n" not in str(refusal.value)
