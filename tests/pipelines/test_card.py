"""Every number of the card comes from a measurement."""

import json
import re

import numpy as np
import pytest

from model.labels import DIGITS
from model.robustness import DISTORTIONS
from pipelines import paths
from pipelines.artefacts import Prepared
from pipelines.card import OUTLIERS, Measurements, card
from tests.bundles import make_bundle

# Numbers of the template itself: the year of the paper, and the side of the input.
TYPED = {"2019", "28"}
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]\d+)?")


def made(folder, seed):
    """Measurements for a card. Each number is random, so two seeds share hardly any."""
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
    return Measurements(
        manifest=make_bundle(folder, created=f"{count()}-{count()}", canonical_version=f"{count()}", run=f"r{count()}"),
        metrics=metrics,
        calibration={"temperature": share(), "abstain_below": share(), "coverage": share()},
        export={"images": count(), "max_difference": share() * 1e-6, "model_bytes": count(), "inference_us": share()},
        run={"start": {"params": {"train.seed": f"{count()}", "promote.significance": "77.7"}}},
        source={"provenance": {"source": "digits", "made of": f"{count()} pictures"}},
        counts={
            name: {d: count() for d in (*"0123456789", OUTLIERS)}
            for name in ("train, real", "train, synthetic", "test, real")
        },
    )


def leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def forms_of(measured):
    """Every measured number, in every form in which a card may show it."""
    of_splits = [*leaves(measured.counts), *(sum(of.values()) for of in measured.counts.values())]
    facts = [measured.metrics, measured.calibration, measured.export, measured.run, measured.source]
    forms = set(TYPED)
    for leaf in [*leaves(facts), *of_splits]:
        if isinstance(leaf, str):
            forms |= set(NUMBER.findall(leaf))
        else:
            forms |= {f"{leaf:,}", f"{leaf:.4g}", f"{leaf:.2%}".rstrip("%"), str(leaf)}
    forms |= set(NUMBER.findall(measured.manifest.model_dump_json()))
    forms |= {digit for known_ in DISTORTIONS.values() for digit in NUMBER.findall(known_.unit)}
    return (
        forms
        | {f"{s:g}".lstrip("-") for k in DISTORTIONS.values() for s in (k.none, *k.severities)}
        | set("0123456789")
    )


@pytest.mark.parametrize("seed", range(3))
def test_every_number_was_measured(tmp_path, seed):
    measured = made(tmp_path / "bundle", seed)
    text = card(measured).replace("Apache-2.0", "")
    found = set(NUMBER.findall(re.sub(r"[0-9a-f]{64}|`golden.npz`", "", text)))
    assert len(found) > 150
    assert found - forms_of(measured) == set()


def test_the_card_has_every_measurement(tmp_path):
    measured = made(tmp_path / "bundle", 5)
    text = card(measured)
    shown = set(re.findall(NUMBER.pattern + "%?", text))
    for leaf in leaves([measured.metrics, measured.calibration, measured.export, measured.counts]):
        assert {f"{leaf:,}", f"{leaf:.4g}", f"{leaf:.2%}"} & shown, leaf
    for digest in measured.manifest.sha256.values():
        assert digest in text
    assert "train.seed" in text
    assert "77.7" not in text  # the parameters of the gate are not the model's


def test_two_models_share_no_figure(tmp_path):
    """No number is typed: other measurements give other cells in every table."""
    one, other = (card(made(tmp_path / f"bundle{seed}", seed)) for seed in (1, 2))
    shares = re.compile(r"\d+\.\d\d%")
    assert len(set(shares.findall(one))) > 100
    assert len(set(shares.findall(one)) & set(shares.findall(other))) < 5  # by chance


def test_images_are_counted_by_origin_split_and_digit(in_folder):
    paths.OUT.mkdir()
    paths.PREPARED.parent.mkdir()
    for file in (paths.METRICS, paths.CALIBRATION, paths.EXPORT, paths.RUN, paths.VALIDATION):
        file.write_text("{}")
    make_bundle(paths.BUNDLE)
    images, none = np.zeros((6, 28, 28), np.uint8), np.arange(6)
    for path, labels, splits in (
        (paths.PREPARED, [0, 0, 9, 3, 3, 3], [0, 0, 0, 1, 2, 2]),
        (paths.SYNTHETIC, [5, 5, 10, 1, 1, 1], [0, 0, 0, 0, 1, 1]),
        (paths.LABELS, [4, 4, 7, 7, 7, 7], [0, 0, 0, 2, 2, 2]),
    ):
        Prepared(images, np.array(labels, np.uint8), DIGITS, np.array(splits, np.uint8), none).save(path)
    found = {name: {digit: n for digit, n in of.items() if n} for name, of in Measurements.load().counts.items()}
    assert found == {
        "train, real": {"0": 2, "9": 1}, "validation, real": {"3": 1}, "test, real": {"3": 2},
        "train, synthetic": {"5": 2, "no label": 1, "1": 1}, "validation, synthetic": {"1": 2},
        "train, people's": {"4": 2, "7": 1}, "test, people's": {"7": 3},
    }  # fmt: skip


def test_the_card_names_the_weakest_digit_and_the_worst_of_each_distortion(tmp_path):
    measured = made(tmp_path / "bundle", 0)
    measured.metrics["per_class"]["7"]["recall"] = 0.05
    course = measured.metrics["robustness"]["accuracy"]["shift"]["canonical"]
    course.update(dict.fromkeys(course, 0.97))
    measured.metrics["robustness"]["accuracy"]["noise"]["canonical"]["48"] = 0.011
    text = card(measured)
    assert "The handwritten digit it reads worst is 7: 5.00% of" in text
    assert "- Shift: 97.00% at worst, at 8 (pixels, in any direction)." in text
    assert "- Noise: 1.10% at worst, at 48 (grey levels of 255, standard deviation)." in text


def test_a_card_of_letters_does_not_speak_of_digits(tmp_path):
    measured = made(tmp_path / "bundle", 0)
    letters = measured.manifest.model_copy(update={"labels": list("ABCDEFGHIJ")})
    counts = {name: dict(zip((*letters.labels, OUTLIERS), of.values(), strict=True))
              for name, of in measured.counts.items()}  # fmt: skip
    metrics = measured.metrics | {
        "per_class": dict(zip(letters.labels, measured.metrics["per_class"].values(), strict=True))
    }
    source = {"provenance": {"source": "folder"}}
    changed = {"manifest": letters, "counts": counts, "metrics": metrics, "source": source}
    text = card(Measurements(**{**vars(measured), **changed}))
    assert "digit" not in text
    assert "a probability for each of A, B, C, D, E, F, G, H, I, J" in text
    assert "| images | A | B | C | D | E | F | G | H | I | J | no label | all |" in text


def test_the_card_says_when_the_code_was_not_committed(tmp_path):
    measured = made(tmp_path / "bundle", 0)
    assert "uncommitted" not in card(measured)
    dirty = measured.manifest.model_copy(update={"git_revision": "a" * 40, "git_dirty": True})
    assert f"{'a' * 40} with uncommitted changes" in card(Measurements(**{**vars(measured), "manifest": dirty}))


def test_the_card_starts_without_torch_and_mlflow():
    import subprocess
    import sys

    code = "import sys, pipelines.card; print(json.dumps([m for m in ('torch', 'mlflow') if m in sys.modules]))"
    ran = subprocess.run([sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == []
