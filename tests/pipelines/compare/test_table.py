"""The table has every classifier of the line-up."""

import json

from model.networks.lineup import LINE_UP
from model.robustness import DISTORTIONS, VIEWS, Point
from pipelines import paths
from pipelines.compare import table
from pipelines.curves import read, write


def course(clean, worse):
    """Curves whose accuracy falls by `worse` with each severity, without `canonical` only."""
    return [
        Point(name, view, severity, clean - worse * i * (view == "bare"))
        for name, distortion in DISTORTIONS.items()
        for i, severity in enumerate((distortion.none, *distortion.severities))
        for view in VIEWS
    ]


def test_the_table_has_a_row_for_every_classifier_in_the_order_of_the_line_up(in_folder, capsys):
    for i, name in enumerate(LINE_UP):
        metrics = {"year": 1980 + i, "trained_on": 60_000, "test_images": 10_000, "errors": 100 + i,
                   "accuracy": 0.99 - i / 1e4, "fit_seconds": 12.3, "us_per_image": 1_234.5}  # fmt: skip
        paths.COMPARE.mkdir(parents=True, exist_ok=True)
        (paths.COMPARE / f"{name}.json").write_text(json.dumps(metrics))
        write(paths.COMPARE / f"{name}.csv", {name: course(0.9, 0.1 if name == "rbf_svm" else 0.05)})
    table.main()
    head, _, *rows = (paths.COMPARE / "table.md").read_text().splitlines()
    assert [row.split(" | ")[0] for row in rows] == [f"| {name}" for name in LINE_UP]
    assert head.count("|") == rows[0].count("|") == 12
    svm = next(row for row in rows if "rbf_svm" in row)
    assert svm.split(" | ", 3)[3] == "60,000 | 12.3 | 1,234.5 | 70.0% | 10.0% | 90.0% | 59.5% | 90.0% |"
    assert list(read(paths.COMPARE / "robustness.csv")) == list(LINE_UP)
    lines = (paths.COMPARE / "table.csv").read_text().splitlines()
    assert len(lines) == len(LINE_UP) + 1
    assert lines[0].startswith(
        "classifier,year,trained_on,test_images,errors,accuracy,fit_seconds,us_per_image,bare_shifted_2"
    )
    assert (paths.COMPARE / "robustness.png").stat().st_size > 10_000
    assert f"table: {len(LINE_UP)} classifiers; {next(iter(LINE_UP))} reads best (99.00%)" in capsys.readouterr().out
