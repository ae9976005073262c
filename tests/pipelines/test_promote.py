"""The gate passes good models and refuses bad ones."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from model import bundle
from model.predictor import Predictor
from model.robustness import distorted, product
from pipelines import paths
from pipelines.artefacts import Prepared, Split
from pipelines.promote import (
    Challenger,
    Labelled,
    PromoteParams,
    gate,
    labelled,
    mcnemar,
    people_checks,
    promote,
    report,
)
from pipelines.timing import inference_us
from pipelines.tracking import Run
from pipelines.trust import judge
from tests.bundles import DIGITS, linear_model, make_bundle
from tests.conftest import REPOSITORY
from tests.labelled import PARAMS as PEOPLE
from tests.labelled import Sender

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
    for p, side in ((found.p_worse, "greater"), (found.p_better, "less")):
        assert p == pytest.approx(binomtest(ours, ours + theirs, alternative=side).pvalue if ours + theirs else 1)


def of_people(challenger, champion, *, canaries=(LABELS[:0],) * 3, new=True):
    """Pictures that people labelled: 400 of held-out callers and `canaries`, (labels, challenger's, champion's)."""
    return Labelled(LABELS, challenger, champion, False, *canaries, new)


BAD = wrong(*spread(60))  # the champion's 15 % of errors on people's pictures, with 1 % on the frozen ones


@pytest.mark.parametrize(
    ("people", "name", "passed"),
    [
        (of_people(wrong(*spread(20)), BAD), "better than", True),
        (of_people(wrong(*spread(58)), BAD), "better than", False),
        (of_people(BAD, BAD), "better than", False),
        (of_people(BAD, BAD, new=False), "not worse than", True),
        (of_people(wrong(*spread(80)), BAD, new=False), "not worse than", False),
        (of_people(wrong(*spread(4)), wrong(*spread(4, start=7))), "not worse than", True),
        (of_people(wrong(*spread(20)), wrong(*spread(4))), "not worse than", False),
    ],
    ids=["the reason to train again is gone", "hardly better", "not better", "no new labels", "worse with none",
         "a champion that reads them well", "worse than such a champion"],
)  # fmt: skip
def test_new_labels_must_make_a_model_better_where_the_champion_misreads_peoples_pictures(people, name, passed):
    [check] = people_checks(people, 0.01, PARAMS)
    assert (check.name, check.passed) == (f"{name} the champion on people's pictures", passed)


def test_the_check_says_what_was_compared():
    [check] = people_checks(of_people(wrong(*spread(20)), BAD), 0.01, PARAMS)
    assert check.found == "0 errors of its own against 40 in 400 labelled for any reason, p = 0.000"
    assert check.asked == "p below 0.05: the champion misreads 15.00% of them, 1.00% of the test split"


@pytest.mark.parametrize(("errors", "passed"), [(10, True), (12, True), (13, False)])
def test_what_people_once_corrected_must_stay_right(errors, passed):
    labels, champions = np.arange(40) % 10, np.arange(40) % 10
    champions[:10] = 11
    challengers = labels.copy()
    challengers[-errors:] = 11
    found = of_people(LABELS, LABELS, canaries=(labels, challengers, champions))
    _, check = people_checks(found, 0.01, PARAMS)
    assert (check.name, check.passed, check.asked) == ("people's oldest hard pictures", passed, "at least 70.00%")


def test_without_labels_of_people_nothing_is_added():
    none = LABELS[:0]
    assert list(people_checks(Labelled(none, none, none, False, none, none, none, True), 0.01, PARAMS)) == []


@pytest.fixture
def sent():
    """All of `DIGITS` as people's pictures, taken: half are to judge with, one of these audited, two were misread."""
    send = Sender()
    send.golden_pictures("dan", right=5)
    for digit in range(10):
        send(digit, digit, "dan", role="labeller", asked="audit" if digit == 7 else "uncertain", pixels=DIGITS[digit],
             predicted=0 if digit in (3, 6) else None, sure=0.3)  # fmt: skip
    feedback = send.feedback()
    feedback = feedback.with_judged(judge(feedback, PEOPLE).judged)
    rows = np.arange(10)
    splits = np.where(rows < 5, Split.TRAIN, Split.TEST).astype(np.uint8)
    return Prepared(DIGITS, rows.astype(np.uint8), CLASSES, splits, rows), feedback


def test_both_models_read_the_pictures_that_people_labelled(sent, rigid, tmp_path):
    make_bundle(tmp_path / "blind", linear_model(images=DIGITS[::-1].copy()))
    blind = Predictor.load(tmp_path / "blind")
    found = labelled(*sent, rigid, blind, PARAMS)
    assert found.judged.tolist() == found.judged_challenger.tolist() == [5, 6, 7, 8, 9]
    assert found.judged_champion.tolist() == [4, 3, 2, 1, 0]
    assert found.canaries.tolist() == found.canaries_challenger.tolist() == [3, 6]
    assert found.canaries_champion.tolist() == [6, 3]
    assert (found.at_random, found.newly_trained_on) == (False, False)


def test_enough_labels_asked_for_at_random_are_compared_alone(sent, rigid):
    found = labelled(*sent, rigid, rigid, PARAMS.model_copy(update={"min_audited": 1}))
    assert (found.judged.tolist(), found.at_random) == ([7], True)


def test_other_labels_than_the_champions_are_new(sent, rigid, tmp_path):
    folder = tmp_path / "bundle"
    make_bundle(folder, hashes={"data": "d" * 64, "params": "p" * 64, "labels": "1" * 64})
    assert labelled(*sent, Predictor.load(folder), rigid, PARAMS).newly_trained_on
    assert not labelled(*sent, Predictor.load(folder), Predictor.load(folder), PARAMS).newly_trained_on
    people, feedback = sent
    untrained = dataclasses.replace(people, splits=np.full(10, Split.TEST, np.uint8))
    assert not labelled(untrained, feedback, Predictor.load(folder), rigid, PARAMS).newly_trained_on


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
