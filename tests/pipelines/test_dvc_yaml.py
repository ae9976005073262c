"""dvc.yaml lists exactly the code that each stage imports."""

import subprocess
import sys
from pathlib import Path

import grimp
import pytest
import yaml

import pipelines
from tests.conftest import REPOSITORY

STAGES = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
COMPARE = yaml.safe_load((REPOSITORY / "pipelines" / "compare" / "dvc.yaml").read_text())["stages"]
LOCK = yaml.safe_load((REPOSITORY / "dvc.lock").read_text())


def is_data(dependency):
    return dependency.startswith(("data/", "out/"))


def code_deps(stage):
    return {dependency for dependency in stage["deps"] if not is_data(dependency)}


def data_deps(stage):
    return {dependency for dependency in stage["deps"] if is_data(dependency)}


# A dependency that is a folder stands for all modules of that package.
FOLDERS = {
    dep for stage in (*STAGES.values(), *COMPARE.values()) for dep in code_deps(stage) if not dep.endswith(".py")
}
GRAPH = grimp.build_graph("model", "pipelines")
for folder in FOLDERS:
    GRAPH.squash_module(folder.replace("/", "."))


def code_of(module):
    """The files and folders with `module` and all it imports. Packages of which no folder is a dependency are left out:
    they hold only a docstring."""
    paths = {name.replace(".", "/") for name in {module} | GRAPH.find_upstream_modules(module)}
    return (paths & FOLDERS) | {f"{path}.py" for path in paths if (REPOSITORY / f"{path}.py").exists()}


def outs_of(stage):
    listed = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
    return {next(iter(out)) if isinstance(out, dict) else out for out in listed}


def test_the_package_lists_the_stages_in_the_order_of_dvc_yaml():
    assert pipelines.__doc__.splitlines()[0].endswith(f"dvc.yaml: {', '.join(STAGES)}.")


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_one_word_everywhere(name):
    assert STAGES[name]["cmd"] == f"python -m pipelines.{name}"
    if name == "card":  # it only shows what other stages measured
        assert "params" not in STAGES[name]
    else:
        assert STAGES[name]["params"] == ["data" if name == "ingest" else name]
    assert (REPOSITORY / "pipelines" / f"{name}.py").exists()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_the_code_it_imports_and_on_no_other(name):
    assert code_deps(STAGES[name]) == code_of(f"pipelines.{name}")


def test_a_folder_is_a_dependency_only_of_stages_that_import_from_it():
    assert {"model/canonical", "model/synthetic", "pipelines/tracking"} == FOLDERS
    users = {folder: [name for name in STAGES if folder in code_of(f"pipelines.{name}")] for folder in FOLDERS}
    assert users["model/synthetic"] == ["synthesize", "evaluate"]
    assert users["pipelines/tracking"] == ["train", "evaluate", "export", "promote"]
    assert {"ingest", "prepare"} <= set(users["model/canonical"])
    assert "validate" not in users["model/canonical"]


def test_dvc_does_not_hash_bytecode_in_a_folder():
    cached = Path("model", "canonical", "__pycache__", "parts.cpython-311.pyc")
    command = [sys.executable, "-m", "dvc", "check-ignore", str(cached), "model/canonical/parts.py"]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.stdout.splitlines() == [str(cached)], ran.stderr


def test_every_file_a_stage_needs_is_made_by_one_before_it():
    made = set()
    for name, stage in STAGES.items():
        assert data_deps(stage) <= made, name
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
        assert code_deps(stage) == code_of(f"pipelines.compare.{name}")
    made = {out.replace("${item.classifier}", name) for name in LINE_UP for out in judge["outs"]}
    assert data_deps(table) == made
