from bench.ablation import VARIANTS, table

RUNS = [
    {"validation_accuracy_real": 0.99, "validation_accuracy_drawn": 0.97, "abstain_below": 0.6},
    {"validation_accuracy_real": 0.98, "validation_accuracy_drawn": 0.97, "abstain_below": 0.5},
]


def test_a_row_has_the_mean_and_the_spread():
    page = table(dict.fromkeys(VARIANTS, RUNS), 1000)
    assert "| everything | 98.50% (1.00%) | 97.00% (0.00%) | 55.00% (10.00%) |" in page
    assert f"{len(VARIANTS)} variants of the training, 2 seed(s) each" in page
    assert [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines()[-len(VARIANTS) :]] == list(VARIANTS)
