"""Every number of the card comes from a measurement."""

import json
import re

import numpy as np
import pytest

from model.robustness import DISTORTIONS
from pipelines import paths
from pipelines.card import SHOWN, Known, card
from pipelines.prepare import Prepared
from tests.bundles import make_bundle

# What the template itself may say: the year of the paper, the network's input.
TYPED = {"2019", "28"}
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]\d+)?")


def made(folder, seed):
    """Everything the card is made of, with numbers that `seed` draws and no other has."""
    rng = np.random.default_rng(seed)
    share = lambda: float(rng.uniform(0.1, 0.99))  # noqa: E731
    count = lambda: int(rng.integers(1_000, 90_000))  # noqa: E731
    metrics = {
        "images": count(), "errors": count(), "accuracy": share(), "log_loss": share(), "calibration_error": share(),
        "per_class": {d: {"precision": share(), "recall": share(), "images": count()} for d in "0123456789"},
        "parameters": count(),
        "baselines": {"rbf_svm": {"accuracy": share(), "trained_on": count()}},
        "calibration": {"error_before": share(), "coverage_curve": [{"coverage": share(), "accuracy": share()}] * 2},
        "outliers": {"images": count(), "refused": {"letters": share(), "noise": share()}},
        "kinds": {"letters": {"refused": share(), "images": count()}, "noise": {"refused": share(), "images": count()}},
        "robustness": {"images": count(), "accuracy": {
            name: {view: {f"{s:g}": share() for s in (known.none, *known.severities)} for view in ("bare", "canonical")}
            for name, known in DISTORTIONS.items()}},
    }  # fmt: skip
    return Known(
        manifest=make_bundle(folder, created=f"{count()}-{count()}", canonical_version=f"{count()}", run=f"r{count()}"),
        metrics=metrics,
        calibration={"temperature": share(), "abstain_below": share(), "coverage": share()},
        export={"images": count(), "max_difference": share() * 1e-6, "model_bytes": count(), "inference_us": share()},
        run={"start": {"params": {"train.seed": f"{count()}", "promote.significance": "77.7"}}},
        source={"provenance": {"source": "digits", "made of": f"{count()} pictures"}},
        counts={name: {d: count() for d in SHOWN} for name in ("train, real", "train, drawn", "test, real")},
    )


def leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def measured(known):
    """Every number that went in, in every form in which a card may show it."""
    of_splits = [*leaves(known.counts), *(sum(of.values()) for of in known.counts.values())]
    facts = [known.metrics, known.calibration, known.export, known.run, known.source]
    forms = set(TYPED)
    for leaf in [*leaves(facts), *of_splits]:
        if isinstance(leaf, str):
            forms |= set(NUMBER.findall(leaf))
        else:
            forms |= {f"{leaf:,}", f"{leaf:.4g}", f"{leaf:.2%}".rstrip("%"), str(leaf)}
    forms |= set(NUMBER.findall(known.manifest.model_dump_json()))
    forms |= {digit for known_ in DISTORTIONS.values() for digit in NUMBER.findall(known_.unit)}
    return (
        forms
        | {f"{s:g}".lstrip("-") for k in DISTORTIONS.values() for s in (k.none, *k.severities)}
        | set("0123456789")
    )


@pytest.mark.parametrize("seed", range(3))
def test_every_number_is_one_that_was_measured(tmp_path, seed):
    known = made(tmp_path / "bundle", seed)
    text = card(known).replace("Apache-2.0", "")
    found = set(NUMBER.findall(re.sub(r"[0-9a-f]{64}|`golden.npz`", "", text)))
    assert len(found) > 150
    assert found - measured(known) == set()


def test_every_measurement_is_in_it(tmp_path):
    known = made(tmp_path / "bundle", 5)
    text = card(known)
    shown = set(re.findall(NUMBER.pattern + "%?", text))
    for leaf in leaves([known.metrics, known.calibration, known.export, known.counts]):
        assert {f"{leaf:,}", f"{leaf:.4g}", f"{leaf:.2%}"} & shown, leaf
    for digest in known.manifest.sha256.values():
        assert digest in text
    assert "train.seed" in text
    assert "77.7" not in text  # the gate's parameters aren't the model's


def test_two_models_share_no_figure(tmp_path):
    """Nothing is typed: with other measurements every table has other cells."""
    one, other = (card(made(tmp_path / f"bundle{seed}", seed)) for seed in (1, 2))
    shares = re.compile(r"\d+\.\d\d%")
    assert len(set(shares.findall(one))) > 100
    assert len(set(shares.findall(one)) & set(shares.findall(other))) < 5  # by chance


def test_the_images_are_counted_by_split_and_digit_real_and_drawn_apart(in_folder):
    paths.OUT.mkdir()
    paths.PREPARED.parent.mkdir()
    for file in (paths.METRICS, paths.CALIBRATION, paths.EXPORT, paths.RUN, paths.VALIDATION):
        file.write_text("{}")
    make_bundle(paths.BUNDLE)
    images, none = np.zeros((6, 28, 28), np.uint8), np.arange(6)
    Prepared(images, np.array([0, 0, 9, 3, 3, 3], np.uint8), np.array([0, 0, 0, 1, 2, 2], np.uint8), none).save(
        paths.PREPARED
    )
    Prepared(images, np.array([5, 5, 10, 1, 1, 1], np.uint8), np.array([0, 0, 0, 0, 1, 1], np.uint8), none).save(
        paths.SYNTHETIC
    )
    found = {name: {digit: n for digit, n in of.items() if n} for name, of in Known.load().counts.items()}
    assert found == {
        "train, real": {"0": 2, "9": 1}, "validation, real": {"3": 1}, "test, real": {"3": 2},
        "train, drawn": {"5": 2, "none": 1, "1": 1}, "validation, drawn": {"1": 2},
    }  # fmt: skip


def test_it_names_the_weakest_digit_and_the_worst_of_each_distortion(tmp_path):
    known = made(tmp_path / "bundle", 0)
    known.metrics["per_class"]["7"]["recall"] = 0.05
    course = known.metrics["robustness"]["accuracy"]["shift"]["canonical"]
    course.update(dict.fromkeys(course, 0.97))
    known.metrics["robustness"]["accuracy"]["noise"]["canonical"]["48"] = 0.011
    text = card(known)
    assert "The digit it reads worst is 7: 5.00% of" in text
    assert "- Shift: 97.00% at worst, at 8 (pixels, in any direction)." in text
    assert "- Noise: 1.10% at worst, at 48 (grey levels of 255, standard deviation)." in text


def test_it_says_when_the_code_was_not_committed(tmp_path):
    known = made(tmp_path / "bundle", 0)
    assert "uncommitted" not in card(known)
    dirty = known.manifest.model_copy(update={"git_revision": "a" * 40, "git_dirty": True})
    assert f"{'a' * 40} with uncommitted changes" in card(Known(**{**vars(known), "manifest": dirty}))


def test_it_starts_without_torch_and_mlflow():
    import subprocess
    import sys

    code = "import sys, pipelines.card; print(json.dumps([m for m in ('torch', 'mlflow') if m in sys.modules]))"
    ran = subprocess.run([sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == []
