"""The mixture of a batch, and the length of a training."""

import numpy as np
import pytest

from pipelines.artefacts import Prepared, Split
from pipelines.train import TrainParams, groups, recipe
from tests.bundles import DIGITS
from tests.conftest import REPOSITORY

CLASSES = tuple("0123456789")
PARAMS = TrainParams.load(REPOSITORY / "params.yaml")


def prepared(count, labels, split=Split.TRAIN):
    images = np.resize(DIGITS, (count, 28, 28))
    labels = np.resize(labels, count).astype(np.uint8)
    return Prepared(images, labels, CLASSES, np.full(count, split, np.uint8), np.arange(count))


def both(one, other):
    arrays = ("images", "labels", "splits", "rows")
    joined = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in arrays}
    return Prepared(classes=CLASSES, **joined)


SYNTHETIC = both(prepared(4_000, range(10)), prepared(300, [10]))
NOBODYS = prepared(0, [0])


@pytest.mark.parametrize(
    ("real", "share"),
    [(100, 4_000 / (4_000 + 10 * 100)), (10_000, 0.2)],
    ids=["few real images, by weight", "many real images, the least share"],
)
def test_a_batch_is_a_mixture(real, share):
    params = PARAMS.model_copy(update={"real_weight": 10, "drawn": 0.2, "outliers": 0.1})
    found = groups(prepared(real, range(10)), SYNTHETIC, NOBODYS, params)
    assert [len(group.images) for group in found] == [real, 4_000, 300]
    assert [group.share for group in found] == pytest.approx([0.9 * (1 - share), 0.9 * share, 0.1])
    assert set(found[2].labels.tolist()) == {10}


def test_without_synthetic_images_only_real_ones_are_used():
    [only] = groups(prepared(50, range(10)), prepared(0, [0]), NOBODYS, PARAMS)
    assert (len(only.images), only.share) == (50, 1)


def test_what_people_labelled_is_a_share_of_the_digits_and_takes_it_from_all_others_alike():
    params = PARAMS.model_copy(update={"outliers": 0.1, "people": 0.05})
    labelled = both(prepared(120, range(10)), prepared(30, range(10), Split.TEST))
    before = groups(prepared(10_000, range(10)), SYNTHETIC, NOBODYS, params)
    found = groups(prepared(10_000, range(10)), SYNTHETIC, labelled, params)
    assert [len(group.images) for group in found] == [10_000, 4_000, 300, 120]
    real, drawn, outliers = (group.share for group in before)
    assert [group.share for group in found] == pytest.approx([0.95 * real, 0.95 * drawn, outliers, 0.9 * 0.05])


def test_many_real_images_train_longer():
    params = PARAMS.model_copy(update={"images_seen": 100_000, "passes": 15, "reports": 10})
    assert recipe(params, 1_000).images_seen == 100_000
    assert recipe(params, 54_000).images_seen == 15 * 54_000
    assert recipe(params, 54_000).report_every == 81_000
