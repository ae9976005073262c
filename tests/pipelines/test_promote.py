"""The gate passes good models and refuses bad ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from model import bundle
from model.predictor import Predictor
from model.robustness import distorted, product
from pipelines import paths
from pipelines.promote import Challenger, PromoteParams, gate, mcnemar, promote, report
from pipelines.timing import inference_us
from pipelines.tracking import Run
from tests.bundles import DIGITS, make_bundle
from tests.conftest import REPOSITORY

LABELS = np.repeat(np.arange(10), 40).astype(np.uint8)
CLASSES = tuple("0123456789")
PARAMS = PromoteParams.load(REPOSITORY / "params.yaml")


def wrong(*rows):
    """The digits of a classifier that reads `rows` wrongly and all others rightly."""
    digits = LABELS.copy()
    digits[list(rows)] = (digits[list(rows)] + 1) % 10
    return digits


def spread(count, start=0):
    """`count` rows, spread over the classes."""
    return [(start + i * 41) % 400 for i in range(count)]


WEAK, STRONG = wrong(*spread(20)), wrong(*spread(8))


def challenger_with(digits, *, shifted=None, bare_shifted=None, size=230_000, us=80.0):
    """A challenger that reads the test images as `digits`. By default it reads shifted ones equally well."""
    return Challenger(
        digits, digits if shifted is None else shifted, digits if bare_shifted is None else bare_shifted, size, us
    )


def refused(challenger, champion=None, *, weak=WEAK, strong=STRONG, shared=0, params=PARAMS):
    challenger = challenger if isinstance(challenger, Challenger) else challenger_with(challenger)
    rivals = {"logistic_regression": weak, "rbf_svm": strong}
    checks = list(gate(LABELS, CLASSES, challenger, rivals, champion, shared, params))
    return [check.name for check in checks if not check.passed]


def test_a_good_first_model_passes():
    assert refused(wrong(*spread(5))) == []


def test_a_model_as_good_as_the_champion_passes():
    assert refused(wrong(*spread(5)), champion=wrong(*spread(5, start=7))) == []


def test_a_clearly_bad_model_fails_every_check_of_accuracy():
    guess = np.random.default_rng(0).integers(0, 10, 400).astype(np.uint8)
    assert refused(guess, champion=wrong(*spread(5))) == [
        "accuracy", *(f"accuracy on {digit}" for digit in range(10)),
        "shifted by 8 px", "shifted by 2 px, without canonical",
        "beats logistic regression", "not worse than the RBF SVM", "not worse than the champion",
    ]  # fmt: skip


def test_one_bad_class_is_refused():
    assert refused(wrong(*range(280, 285))) == ["accuracy on 7"]


def test_a_class_that_is_missing_cannot_pass():
    rows = LABELS != 4
    rivals = {"logistic_regression": WEAK[rows], "rbf_svm": STRONG[rows]}
    checks = list(gate(LABELS[rows], CLASSES, challenger_with(LABELS[rows]), rivals, None, 0, PARAMS))
    assert [check.name for check in checks if not check.passed] == ["accuracy on 4"]


def test_a_model_no_better_than_logistic_regression_is_refused():
    assert refused(wrong(*spread(8)), weak=wrong(*spread(8, start=3))) == ["beats logistic regression"]


def linear_check(challenger, linear):
    rivals = {"logistic_regression": linear, "rbf_svm": STRONG}
    checks = gate(LABELS, CLASSES, challenger_with(challenger), rivals, None, 0, PARAMS)
    [check] = [check for check in checks if check.name == "beats logistic regression"]
    return check.passed, check.found, check.asked


def test_a_tie_with_logistic_regression_passes_only_without_an_error():
    best = "not worse than 100.00%, which cannot be beaten"
    assert linear_check(LABELS, LABELS) == (True, "100.00%", best)
    assert linear_check(wrong(0), LABELS) == (False, "99.75%", best)
    assert linear_check(wrong(0), wrong(50)) == (False, "99.75%", "more than 99.75%")
    assert linear_check(LABELS, wrong(0)) == (True, "100.00%", "more than 99.75%")


def test_the_classes_are_named_in_the_checks():
    rivals = {"logistic_regression": WEAK, "rbf_svm": STRONG}
    checks = gate(LABELS, "ABCDEFGHIJ", challenger_with(wrong(*range(280, 285))), rivals, None, 0, PARAMS)
    assert [check.name for check in checks if not check.passed] == ["accuracy on H"]


def test_significantly_worse_than_the_champion_is_refused():
    assert refused(wrong(*spread(10)), champion=LABELS, strong=wrong(*spread(9))) == ["not worse than the champion"]


def test_worse_by_chance_is_not_refused():
    assert refused(wrong(*spread(4)), champion=LABELS) == []


def test_too_large_a_model_is_refused():
    assert refused(challenger_with(wrong(*spread(5)), size=PARAMS.max_model_bytes)) == []
    assert refused(challenger_with(wrong(*spread(5)), size=PARAMS.max_model_bytes + 1)) == ["size"]


def test_too_slow_a_model_is_refused():
    assert refused(challenger_with(wrong(*spread(5)), us=PARAMS.max_inference_us)) == []
    assert refused(challenger_with(wrong(*spread(5)), us=PARAMS.max_inference_us + 1)) == ["latency"]


def test_a_model_that_reads_shifted_digits_worse_is_refused():
    good = wrong(*spread(5))
    assert refused(challenger_with(good, shifted=wrong(*spread(13)))) == ["shifted by 8 px"]
    assert refused(challenger_with(good, bare_shifted=wrong(*spread(61)))) == ["shifted by 2 px, without canonical"]


@pytest.fixture(scope="module")
def rigid(tmp_path_factory):
    """A model that reads a digit only at the place of its templates."""
    folder = tmp_path_factory.mktemp("rigid") / "bundle"
    make_bundle(folder)
    return Predictor.load(folder)


def test_a_shift_intolerant_model_is_refused(rigid):
    """It reads all test images, and all shifted ones after `canonical`. Without `canonical` it fails."""
    images = product(distorted(np.repeat(DIGITS, 40, axis=0), "shift", 0, seed=0))
    found = Challenger.measured(rigid, images, 1_000, PARAMS)
    assert np.array_equal(found.labels, LABELS)
    assert np.array_equal(found.shifted, LABELS)
    assert refused(found) == ["shifted by 2 px, without canonical"]


def test_a_canonical_that_no_longer_undoes_shifts_is_refused(rigid, monkeypatch):
    """Here `canonical` is replaced by a crop of the middle, as in the usual demo."""
    monkeypatch.setattr("pipelines.promote.product", lambda canvases: canvases[:, 8:-8, 8:-8])
    found = Challenger.measured(rigid, np.repeat(DIGITS, 40, axis=0), 1_000, PARAMS)
    assert np.array_equal(found.labels, LABELS)
    assert "shifted by 8 px" in refused(found)


def test_the_latency_is_the_median_of_many_calls(rigid, monkeypatch):
    ticks = iter([tick for took in [80_000] * 400 + [9_000_000] * 150 for tick in (0, took)][100:])
    monkeypatch.setattr("time.perf_counter_ns", lambda: next(ticks))
    assert inference_us(rigid, DIGITS[3]) == 80


def test_a_leak_is_refused():
    assert refused(wrong(*spread(5)), shared=1) == ["no leak"]


def test_a_perfect_result_is_refused_on_enough_images():
    assert refused(LABELS) == []
    assert refused(LABELS, params=PARAMS.model_copy(update={"suspicious_from": 400})) == ["not too good"]


@pytest.mark.parametrize(("ours", "theirs"), [(0, 0), (5, 5), (9, 1), (1, 9), (6, 0)])
def test_mcnemar_is_the_exact_test_of_the_images_that_one_of_the_two_reads_wrongly(ours, theirs):
    challenger, rival = wrong(0, 1, *range(10, 10 + ours)), wrong(0, 1, *range(100, 100 + theirs))
    found = mcnemar(LABELS, challenger, rival)
    assert (found.only_challenger_wrong, found.only_rival_wrong) == (ours, theirs)
    expected = binomtest(ours, ours + theirs, alternative="greater").pvalue if ours + theirs else 1
    assert found.p_worse == pytest.approx(expected)


@pytest.fixture
def manifest(tmp_path):
    return make_bundle(tmp_path / "bundle")


def test_the_report_says_the_decision_first(manifest):
    rivals = {"logistic_regression": WEAK, "rbf_svm": STRONG}
    checks = list(gate(LABELS, CLASSES, challenger_with(wrong(*range(280, 285))), rivals, None, 0, PARAMS))
    text = report(checks, manifest, None)
    assert text.startswith(f"# Refused: model {manifest.version}\n\nChampion until now: none, so floors and baselines")
    assert "| ✗ | accuracy on 7 | 87.50% of 40 | at least 90.00% |" in text
    assert "| ✓ | shifted by 8 px | 98.75% of 400 | at least 97.00% |" in text
    assert "| ✓ | latency | 80 µs for one image | at most 500 |" in text


def test_the_report_names_a_comparison_over_two_versions_of_canonical(manifest):
    assert "the comparison favours" not in report([], manifest, manifest)
    older = manifest.model_copy(update={"canonical_version": "0"})
    assert "It was trained on canonical version 0 and is judged here on the pixels of" in report([], manifest, older)


def test_the_report_says_that_a_champion_with_other_labels_is_not_compared(manifest):
    letters = manifest.model_copy(update={"labels": ["A", "B"], "canonical_version": "0"})
    text = report([], manifest, letters)
    assert "It has other labels and cannot be compared, so floors and baselines alone decide." in text
    assert "the comparison favours" not in text
    assert "other labels" not in report([], manifest, manifest)


class SilentRun(Run):
    """A run that counts the calls of `set_champion` and has no server."""

    def __init__(self):
        self.key, self.promoted = "a-run", 0

    def set_champion(self):
        self.promoted += 1


def log():
    return [json.loads(line) for line in paths.PROMOTIONS.read_text().splitlines()]


def test_a_promotion_is_logged_once_and_served(in_folder, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTOR", "ada")
    manifest, run = make_bundle(paths.BUNDLE), SilentRun()
    promote(run, manifest.version, None)
    promote(run, manifest.version, manifest.version)  # trained again, bit-identical
    assert bundle.read(paths.CHAMPION) == manifest
    assert run.promoted == 2
    [entry] = log()
    assert entry.pop("time")
    assert entry == {"by": "ada", "model": manifest.version, "previous": None, "run": "a-run"}


def test_a_user_without_a_name_can_promote(in_folder, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTOR", raising=False)
    monkeypatch.setattr("getpass.getuser", lambda: {}["nobody"])
    promote(SilentRun(), make_bundle(paths.BUNDLE).version, "before")
    assert log()[0]["by"].startswith("uid ")
    assert log()[0]["previous"] == "before"


def test_an_interrupted_promotion_is_logged_and_done_again(in_folder):
    manifest = make_bundle(paths.BUNDLE)
    paths.BUNDLE.rename("out/elsewhere")
    with pytest.raises(FileNotFoundError):
        promote(SilentRun(), manifest.version, None)
    assert not paths.CHAMPION.exists()
    Path("out/elsewhere").rename(paths.BUNDLE)
    promote(SilentRun(), manifest.version, None)
    assert bundle.read(paths.CHAMPION) == manifest
    assert sorted(entry.name for entry in paths.OUT.iterdir()) == ["bundle", "champion"]
    assert len(log()) == 1
