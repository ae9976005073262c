"""Splits are stratified and share no image; the test split is frozen."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from pipelines import ingest
from pipelines.artefacts import Split
from pipelines.prepare import PrepareParams, digest, prepare, split
from pipelines.stage import StageError
from tests.conftest import REPOSITORY

SOURCE = ingest.digits()
PARAMS = PrepareParams.load(REPOSITORY / "params.yaml")
SETTINGS = {"test": PARAMS.test, "validation": PARAMS.validation, "seed": PARAMS.seed}
SPLITS = split(SOURCE, **SETTINGS)


def reordered(source, order):
    return replace(source, images=source.images[order], labels=source.labels[order], is_test=source.is_test[order])


@pytest.mark.parametrize(("which", "share"), [(Split.TEST, 0.2), (Split.VALIDATION, 0.08), (Split.TRAIN, 0.72)])
def test_every_class_has_its_share_of_every_split(which, share):
    all_of, here = np.bincount(SOURCE.labels), np.bincount(SOURCE.labels[which == SPLITS])
    assert np.abs(here - share * all_of).max() <= 1


def test_the_order_of_the_rows_does_not_move_an_image():
    order = np.random.default_rng(0).permutation(len(SPLITS))
    assert np.array_equal(split(reordered(SOURCE, order), **SETTINGS), SPLITS[order])
    assert digest(reordered(SOURCE, order), SPLITS[order]) == digest(SOURCE, SPLITS)


def test_another_seed_gives_another_split():
    assert not np.array_equal(split(SOURCE, **(SETTINGS | {"seed": 1})), SPLITS)


def test_a_source_keeps_its_own_test_set():
    own = replace(SOURCE, is_test=np.arange(len(SOURCE.labels)) >= 1500)
    assert np.array_equal(split(own, **SETTINGS) == Split.TEST, own.is_test)


def test_the_default_test_split_is_the_frozen_one():
    assert digest(SOURCE, SPLITS) == PARAMS.frozen_test["digits"]


def test_the_frozen_test_split_of_mnist_is_mnists_own(shared_mnist):
    mnist = ingest.mnist(shared_mnist)
    assert (
        digest(mnist, np.where(mnist.is_test, Split.TEST, Split.TRAIN).astype(np.uint8)) == PARAMS.frozen_test["mnist"]
    )


def test_an_image_in_several_splits_stays_in_the_last_one():
    few = reordered(SOURCE, np.arange(40))
    splits = np.repeat([Split.TRAIN, Split.VALIDATION, Split.TEST, Split.TRAIN], 10).astype(np.uint8)
    images = few.images.copy()
    images[0] = images[11] = images[22]  # the same image in each split
    images[1] = images[12]
    images[31] = images[32]  # twice in one split, which is no leak
    found = prepare(replace(few, images=images), splits)
    assert sorted(set(range(40)) - set(found.rows.tolist())) == [0, 1, 11]


def test_no_image_is_in_two_splits_of_the_real_data():
    prepared = prepare(SOURCE, SPLITS)
    sets = [{image.tobytes() for image in prepared.of(which)[0]} for which in Split]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]
    assert prepared.images.shape[1:] == (28, 28)


def run(folder, source):
    (folder / "data").mkdir()
    source.save(folder / "data" / "raw.npz")
    return subprocess.run([sys.executable, "-m", "pipelines.prepare"], capture_output=True, text=True)


def test_an_altered_test_split_stops_the_pipeline(in_folder):
    ran = run(in_folder, replace(SOURCE, images=SOURCE.images[:, ::-1]))
    assert ran.returncode == 1
    assert ran.stderr.startswith("prepare: the test split of 'digits' is not the frozen one (SHA-256 ")
    assert f"not {PARAMS.frozen_test['digits'][:12]}…)" in ran.stderr
    assert "set prepare.frozen_test.digits to " in ran.stderr
    assert not (in_folder / "data" / "prepared.npz").exists()


def test_an_image_without_ink_is_named():
    blank = SOURCE.images.copy()
    blank[7] = 0
    with pytest.raises(StageError, match=r"row 7 of data/raw\.npz, labelled 7: nothing stands out from the paper"):
        prepare(replace(SOURCE, images=blank), SPLITS)
    blank[9] = 0
    files = tuple(f"digits/{row}.png" for row in range(len(blank)))
    with pytest.raises(StageError, match=r"digits/7\.png, labelled 7: nothing .* \(and 1 other images\)"):
        prepare(replace(SOURCE, images=blank, files=files), SPLITS)


def test_a_source_without_a_frozen_test_split_says_how_to_freeze_it(in_folder):
    ran = run(in_folder, replace(SOURCE, provenance={"source": "folder"}))
    assert ran.returncode == 0, ran.stderr
    digest_of_it = PARAMS.frozen_test["digits"]
    assert f"to freeze it, set prepare.frozen_test.folder to {digest_of_it}\n" in ran.stdout


def test_a_split_that_lacks_a_class_is_refused(in_folder):
    params = in_folder / "params.yaml"
    params.write_text(params.read_text().replace("validation: 0.1", "validation: 0.001"))
    ran = run(in_folder, SOURCE)
    assert ran.returncode == 1
    assert "prepare: the validation split has no image of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; increase" in ran.stderr
    assert not (in_folder / "data" / "prepared.npz").exists()
