"""dvc.yaml says what is so."""

import grimp
import pytest
import yaml

from tests.conftest import REPOSITORY

FILE = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
STAGES = FILE["stages"]
COMPARE = yaml.safe_load((REPOSITORY / "pipelines" / "compare" / "dvc.yaml").read_text())["stages"]
LOCK = yaml.safe_load((REPOSITORY / "dvc.lock").read_text())
GRAPH = grimp.build_graph("model", "pipelines", "service")


def code_of(module):
    """The files of `module` and of all it imports; packages that only hold a docstring are left out."""
    modules = {module} | GRAPH.find_upstream_modules(module)
    files = {name.replace(".", "/") for name in modules}
    return {f"{file}.py" for file in files if (REPOSITORY / f"{file}.py").exists()}


def outs_of(stage):
    listed = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
    return {next(iter(out)) if isinstance(out, dict) else out for out in listed}


def test_the_stages_are_those_of_the_design():
    assert list(STAGES) == [
        "ingest",
        "validate",
        "prepare",
        "synthesize",
        "train",
        "evaluate",
        "export",
        "card",
        "promote",
    ]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_one_word_everywhere(name):
    assert STAGES[name]["cmd"] == f"python -m pipelines.{name}"
    if name == "card":  # it only shows what the others found
        assert "params" not in STAGES[name]
    else:
        assert STAGES[name]["params"] == ["data" if name == "ingest" else name]
    assert (REPOSITORY / "pipelines" / f"{name}.py").exists()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_the_code_it_imports_and_on_no_other(name):
    assert {dep for dep in STAGES[name]["deps"] if dep.endswith(".py")} == code_of(f"pipelines.{name}")


def test_every_file_a_stage_needs_is_made_by_one_before_it():
    made = set()
    for name, stage in STAGES.items():
        assert {dep for dep in stage["deps"] if not dep.endswith(".py")} <= made, name
        made |= outs_of(stage)


def test_the_lock_is_of_this_pipeline():
    assert set(LOCK["stages"]) == set(STAGES)
    for name, stage in STAGES.items():
        assert {dep["path"] for dep in LOCK["stages"][name]["deps"]} == set(stage["deps"]), f"{name}: run dvc repro"
        assert {out["path"] for out in LOCK["stages"][name]["outs"]} == outs_of(stage), f"{name}: run dvc repro"


def test_the_line_up_is_judged_whole_by_a_pipeline_of_its_own():
    from model.networks.lineup import LINE_UP

    judge, table = COMPARE["judge"], COMPARE["table"]
    assert list(COMPARE) == ["judge", "table"]
    assert judge["matrix"]["classifier"] == list(LINE_UP)
    assert judge["cmd"] == "python -m pipelines.compare.judge ${item.classifier}"
    assert table["cmd"] == "python -m pipelines.compare.table"
    assert judge["params"] == ["compare"]
    for name, stage in COMPARE.items():
        assert stage["wdir"] == "../.."
        assert {dep for dep in stage["deps"] if dep.endswith(".py")} == code_of(f"pipelines.compare.{name}")
    made = {out.replace("${item.classifier}", name) for name in LINE_UP for out in judge["outs"]}
    assert {dep for dep in table["deps"] if not dep.endswith(".py")} == made
