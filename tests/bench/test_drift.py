import numpy as np
import pytest
from scipy.stats import ks_2samp

from bench.drift import fixed, harm, null, sessions, shifts
from bench.drift.alarms import KINDS, Watch, delays
from bench.drift.traffic import CHANGES, Measured, drawn, mixed
from model.drift import log_bet
from model.robustness import MARGIN
from model.statistics import NAMES, ties
from model.synthetic import write
from pipelines.artefacts import Prepared, Split
from tests.conftest import REPOSITORY

COUNT = 500


@pytest.fixture(scope="module")
def digits():
    images, labels = write(COUNT, 0)
    return images, labels


@pytest.fixture(scope="module")
def prepared(digits, tmp_path_factory):
    images, labels = digits
    file = tmp_path_factory.mktemp("prepared") / "prepared.npz"
    splits = np.where(np.arange(len(labels)) % 2, Split.VALIDATION, Split.TEST).astype(np.uint8)
    Prepared(images, labels, tuple("0123456789"), splits, np.arange(len(labels))).save(file)
    return file


def measured(count: int, seed: int, lift: float = 0) -> Measured:
    """Values that `lift` raises, of a model that is wrong in 5 of 100 answers, whatever its confidence."""
    rng = np.random.default_rng(seed)
    values = rng.normal(lift, 1, (count, len(NAMES)))
    values[:, NAMES.index("class")] = rng.integers(10, size=count)
    values[:, NAMES.index("confidence")] = rng.random(count).round(2)
    return Measured(values, rng.random(count) > 0.05, rng.dirichlet(np.ones(10), count).astype(np.float32))


@pytest.mark.parametrize(("part", "options", "rows"), [
    ("null", ("--streams", 2, "--length", 2_000), [*KINDS, null.KS_ONE, null.KS_ALL]),
    ("fixed", ("--splits", 1), ["10", "20", "50", "100", "200"]),
    ("sessions", ("--writers", 20, "--runs", 1), ["1 ", "2 ", "5 ", "30 "]),
    ("cost", (), ["the statistics", "their ties", "counting them", "together", "the features", "The state after 50 "]),
])  # fmt: skip
@pytest.mark.slow
def test_each_part_prints_its_table(measure, bundle, prepared, monkeypatch, part, options, rows):
    monkeypatch.setattr("bench.drift.cost.EPOCHS", 50)
    ran = measure("drift.__main__", bundle, "--prepared", prepared, "--part", part, *options)
    assert ran.code == 0
    lines = [line.strip() for line in ran.out.splitlines()]
    assert [name for name in rows if not any(line.startswith(name) for line in lines)] == []


@pytest.mark.slow
def test_changes_are_found_and_judged(measure, bundle, prepared, monkeypatch):
    for name in set(CHANGES) - {"inverted"}:
        monkeypatch.delitem(CHANGES, name)
    monkeypatch.setattr(harm, "DISTORTIONS", {})
    monkeypatch.setattr(harm, "SIZES", (50,))
    monkeypatch.setattr(shifts, "CLEAN_FIRST", 200)
    monkeypatch.setattr(shifts, "AFTER", 300)
    monkeypatch.setattr(harm, "LENGTH", 1_000)
    ran = measure("drift.__main__", bundle, "--prepared", prepared, "--part", "shifts", "harm", "--runs", 1)
    assert ran.code == 0
    whole = next(line for line in ran.out.splitlines() if line.startswith("inverted             bare         100%"))
    assert whole.split()[4:8] == ["100%", "100", "100%", "100"]
    undone = next(line for line in ran.out.splitlines() if line.startswith("inverted             canonical    100%"))
    assert undone.split()[-4:] == ["0%"] * 4
    assert "15 streams of 1,000 predictions; " in ran.out


def test_a_small_pool_is_refused(measure, bundle, tmp_path, digits):
    images, labels = digits
    file = tmp_path / "prepared.npz"
    splits = np.full(300, Split.TEST, np.uint8)
    Prepared(images[:300], labels[:300], tuple("0123456789"), splits, np.arange(300)).save(file)
    ran = measure("drift.__main__", bundle, "--prepared", file)
    assert ran.code == f"bench: {file} has 300 pictures outside the training split; needed are 400"


def test_another_file_is_refused(measure, bundle, tmp_path):
    file = tmp_path / "prepared.npz"
    file.write_bytes(b"no archive")
    ran = measure("drift.__main__", bundle, "--prepared", file)
    assert ran.code.startswith(f"bench: {file} is not a file that prepare wrote: ")


@pytest.mark.parametrize(("above", "count"), [(5, 10), (5, 5), (8, 8), (10, 10)])
def test_the_worked_example_of_the_documentation_is_right(above, count):
    gaps = np.array([50, 50])  # of 99 values, parted at the median
    capital = float(np.exp(log_bet(gaps, np.zeros(2, int), np.array([count - above, above]))))
    told = f"{capital:.2f}" if capital < 1 else f"{capital:.1f}"
    assert f"| {above} of {count} | {told} |" in (REPOSITORY / "docs/drift.md").read_text()


def test_rows_have_the_bins_of_their_values():
    known = measured(400, 1)
    drawn_from = null.Null.of(known)
    rows = np.random.default_rng(2).integers(len(known), size=300)
    order = ties([f"reference {row}" for row in range(len(known))])
    numbers = np.repeat(rows[:, None], len(NAMES), axis=1).astype(float)
    expected = known.reference().bins(known.values[rows], order[rows])
    assert np.array_equal(drawn_from.reference.bins(numbers, numbers), expected)


def test_clean_streams_have_the_distribution_of_the_null_hypothesis():
    """The mean and the variance of the first bin's count are those of the Dirichlet-multinomial."""
    drawn_from = null.Null.of(measured(100, 3))
    at, length = NAMES.index("ink"), 200
    gaps = drawn_from.reference.gaps[at]
    first = drawn_from.ranks[:, at] < gaps[0]
    counts = [first[drawn_from.stream(length, np.random.default_rng(seed))].sum() for seed in range(4_000)]
    share, total = gaps[0] / 101, 101
    variance = length * share * (1 - share) * (total + length) / (total + 1)
    assert np.mean(counts) == pytest.approx(length * share, abs=4 * np.sqrt(variance / 4_000))
    assert np.var(counts) == pytest.approx(variance, rel=0.15)


def test_one_looks_early_and_after_each_window():
    ends = [end for _, end in null.looks(3_500)]
    assert ends == [10, 20, 50, 100, 200, 500, 1_000, 2_000, 3_000, 3_500]
    assert [begin for begin, _ in null.looks(3_500)] == [0, *ends[:-1]]


def test_the_usual_test_alarms_about_each_window_that_differs():
    drawn_from = null.Null.of(measured(2_000, 4))
    clean = np.random.default_rng(5).permutation(2_000)
    high = np.flatnonzero(drawn_from.ranks[:, NAMES.index("confidence")] > 1_000)[:1_000]
    assert null.windowed(drawn_from, clean) == {null.KS_ONE: 0, null.KS_ALL: 0}
    assert null.windowed(drawn_from, np.concatenate([high, clean])) == {null.KS_ONE: 1, null.KS_ALL: 1}


def test_bbsds_is_the_greatest_distance_of_scipys_test():
    known, traffic = measured(300, 6), measured(70, 7)
    expected = max(
        ks_2samp(a, b).statistic for a, b in zip(known.probabilities.T, traffic.probabilities.T, strict=True)
    )
    found = fixed.bbsds(np.sort(known.probabilities, axis=0), traffic)
    assert found == pytest.approx(expected * np.sqrt(300 * 70 / 370))


def test_a_change_is_found_after_it_and_clean_traffic_is_not():
    watch = Watch(measured(1_000, 8).reference())
    clean, high = measured(2_000, 9), measured(2_000, 10, lift=3)
    rng = np.random.default_rng(11)
    assert delays(watch, clean, 500, 0.05, rng) == dict.fromkeys(KINDS)
    found = delays(Watch(watch.reference), mixed(clean, high, 1, 1_000, rng, 2_000), 100, 0.05, rng)
    assert found == {"change": 1_100, "tail": None, "risk": None, "harm": None}


def test_errors_are_found_from_labels():
    watch = Watch(measured(1_000, 12).reference())
    wrong = measured(1_000, 13)
    wrong.right[:] = False
    found = delays(watch, wrong, 100, 0.5, np.random.default_rng(14))
    assert found == {"change": None, "tail": None, "risk": None, "harm": 100}


def test_a_stream_mixes_from_the_change_on():
    clean, other = measured(300, 15), measured(50, 16)
    stream = mixed(clean, other, 1, 100, np.random.default_rng(17), 200)
    ours, theirs = ({row.tobytes() for row in one.values} for one in (clean, other))
    assert all(row.tobytes() in ours for row in stream.values[:100])
    assert all(row.tobytes() in theirs for row in stream.values[100:])
    assert len({row.tobytes() for row in stream.values[:100]}) == 100


def test_rows_occur_again_only_when_all_have_occurred():
    rows = drawn(10, 25, np.random.default_rng(18))
    assert sorted(rows[:10]) == sorted(rows[10:20]) == list(range(10))
    assert len(set(rows[20:])) == 5


@pytest.mark.parametrize(("name", "digit"), [("slashed zeros", 0), ("serif ones", 1)])
def test_a_way_of_writing_changes_one_digit(digits, name, digit):
    images, labels = digits
    canvases = np.pad(images, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    made = CHANGES[name](canvases, labels, np.random.default_rng(19))
    is_other = (made != canvases).any(axis=(1, 2))
    assert np.array_equal(is_other, labels == digit)


def test_the_digits_of_a_writer_are_alike():
    """The ink of a writer's digits tells more of the writer than it would if somebody else wrote each of them."""
    writers = [sessions.writer(np.random.default_rng(seed)) for seed in range(12)]
    ink = np.array([[picture.mean() for picture in pictures] for pictures in writers])
    shuffled = np.random.default_rng(20).permutation(ink.ravel()).reshape(ink.shape)
    assert ink.mean(axis=1).var() > 4 * shuffled.mean(axis=1).var()
