"""What a stage writes, the next one reads unchanged."""

import numpy as np
import pytest

from pipelines import ingest
from pipelines.artefacts import Predictions, Prepared, Source, Split, validation
from pipelines.stage import StageError


def test_a_source_is_loaded_as_it_was_saved(tmp_path):
    source = ingest.digits()
    source.save(tmp_path / "raw.npz")
    source.save(tmp_path / "again.npz")
    loaded = Source.load(tmp_path / "raw.npz")
    assert np.array_equal(loaded.images, source.images)
    assert np.array_equal(loaded.labels, source.labels)
    assert loaded.provenance == source.provenance
    assert loaded.classes == source.classes == tuple("0123456789")
    assert (tmp_path / "raw.npz").read_bytes() == (tmp_path / "again.npz").read_bytes()


def test_a_source_of_pictures_of_different_sizes_is_loaded_as_it_was_saved(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in ((3, 5), (4, 4), (1, 2))]
    source = Source(images, np.array([0, 1, 1], np.uint8), ("A", "Bé"), np.zeros(3, np.bool_), {}, ("a", "b", "c"))
    source.save(tmp_path / "raw.npz")
    loaded = Source.load(tmp_path / "raw.npz")
    assert [image.shape for image in loaded.images] == [(3, 5), (4, 4), (1, 2)]
    assert all(np.array_equal(*pair) for pair in zip(loaded.images, images, strict=True))
    assert (loaded.classes, loaded.files) == (("A", "Bé"), ("a", "b", "c"))


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_a_file_that_is_no_source_is_refused(tmp_path, content):
    (tmp_path / "raw.npz").write_bytes(content)
    with pytest.raises(StageError, match="is not a file that ingest wrote"):
        Source.load(tmp_path / "raw.npz")


def test_prepared_images_are_loaded_as_they_were_saved(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 28, 28), np.uint8)
    labels, splits = rng.integers(0, 3, (2, 30)).astype(np.uint8)
    prepared = Prepared(images, labels, ("A", "B", "C"), splits, rng.permutation(30))
    prepared.save(tmp_path / "prepared.npz")
    loaded = Prepared.load(tmp_path / "prepared.npz")
    for name in ("images", "labels", "splits", "rows"):
        assert np.array_equal(getattr(loaded, name), getattr(prepared, name))
    assert loaded.classes == prepared.classes


def test_a_split_has_its_images_and_labels():
    images = np.arange(6, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
    splits = np.array([0, 1, 2, 2, 1, 0], np.uint8)
    prepared = Prepared(images, np.arange(6, dtype=np.uint8), tuple("ABCDEF"), splits, np.arange(6))
    test_images, test_labels = prepared.of(Split.TEST)
    assert test_images[:, 0, 0].tolist() == test_labels.tolist() == [2, 3]


def test_predictions_are_loaded_as_they_were_saved(tmp_path):
    rng = np.random.default_rng(0)
    labels, rbf_svm, forest = rng.integers(0, 10, (3, 20)).astype(np.uint8)
    Predictions(labels, rng.random((20, 10)), {"rbf_svm": rbf_svm, "forest": forest}).save(tmp_path / "p.npz")
    loaded = Predictions.load(tmp_path / "p.npz")
    assert np.array_equal(loaded.labels, labels)
    assert loaded.probabilities.shape == (20, 10)
    assert {name: digits.tolist() for name, digits in loaded.baselines.items()} == {
        "rbf_svm": rbf_svm.tolist(), "forest": forest.tolist(),
    }  # fmt: skip


def test_the_validation_images_are_real_and_synthetic():
    def prepared(count, split):
        labels = np.resize(np.arange(10), count).astype(np.uint8)
        images = np.full((count, 28, 28), count, np.uint8)
        return Prepared(images, labels, tuple("0123456789"), np.full(count, split, np.uint8), np.arange(count))

    images, labels = validation(prepared(30, Split.VALIDATION), prepared(20, Split.VALIDATION))
    assert images[:, 0, 0].tolist() == [30] * 30 + [20] * 20
    assert labels.tolist() == [*range(10)] * 5
    assert len(validation(prepared(30, Split.VALIDATION), prepared(20, Split.TRAIN))[0]) == 30
