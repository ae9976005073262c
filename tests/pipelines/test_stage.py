"""Parameters are strict, errors are one line, files are complete."""

import subprocess
import sys

import pytest
import yaml

from pipelines import stage
from pipelines.compare.judge import CompareParams
from pipelines.evaluate import EvaluateParams
from pipelines.export import ExportParams
from pipelines.ingest import DataParams
from pipelines.labels import LabelsParams
from pipelines.prepare import PrepareParams
from pipelines.promote import PromoteParams
from pipelines.stage import StageError
from pipelines.synthesize import SynthesizeParams
from pipelines.train import TrainParams
from pipelines.trust import FeedbackParams
from pipelines.validate import ValidateParams
from pipelines.watching.params import WatchParams
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

ALL = (
    DataParams,
    ValidateParams,
    PrepareParams,
    SynthesizeParams,
    LabelsParams,
    TrainParams,
    EvaluateParams,
    ExportParams,
    PromoteParams,
    CompareParams,
    FeedbackParams,
    WatchParams,
)


def change(folder, name, value):
    """Writes params.yaml with the dotted parameter `name` set to `value`."""
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    *sections, last = name.split(".")
    at = values
    for section in sections:
        at = at[section]
    at[last] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(values))


def test_every_section_belongs_to_a_stage():
    sections = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    assert set(sections) == {params._section for params in ALL}


@pytest.mark.parametrize("params", ALL)
def test_the_projects_own_parameters_are_valid(params):
    assert params.load(REPOSITORY / "params.yaml")


@pytest.mark.parametrize(
    ("params", "name", "value", "message"),
    [
        (TrainParams, "train.learning_rat", 1, "train.learning_rat is unknown; known are augment, average, batch_size"),
        (TrainParams, "train.augment.rotatoin", 1, "train.augment.rotatoin is unknown; known are contrast, elastic"),
        (TrainParams, "train.images_seen", 5, "train.images_seen is 5, allowed is: greater than or equal to 1000"),
        (TrainParams, "train.batch_size", "many", "train.batch_size is 'many', allowed is: a valid integer"),
        (TrainParams, "train.device", "tpu", "train.device is 'tpu', allowed is: 'auto', 'cpu' or 'cuda'"),
        (TrainParams, "train.augment.shift", 99, "train.augment.shift is 99, allowed is: less than or equal to 8"),
        (TrainParams, "train.images_seen", 1_500, "allowed is: at least 20 batches: images_seen of 2,560 or more"),
        (DataParams, "data.source", "emnist", "data.source is 'emnist', allowed is: 'digits', 'mnist' or 'folder'"),
        (PrepareParams, "prepare.test", 0.9, "prepare.test is 0.9, allowed is: less than 0.5"),
        (PromoteParams, "promote.min_accuracy", 97, "promote.min_accuracy is 97, allowed is: less than or equal to 1"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_allowed(in_folder, params, name, value, message):
    change(in_folder, name, value)
    with pytest.raises(StageError) as refusal:
        params.load()
    assert str(refusal.value).startswith("params.yaml: ")
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {}", "params.yaml has no section 'train'"),
        ("", "params.yaml has no section 'train'"),
        ("train: [", "params.yaml is not YAML: "),
        ("train: {}", "train.images_seen is missing"),
    ],
)
def test_a_broken_file_is_one_line(in_folder, text, message):
    (in_folder / "params.yaml").write_text(text)
    with pytest.raises(StageError) as refusal:
        TrainParams.load()
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


STAGES = ["ingest", "validate", "prepare", "synthesize", "labels", "train", "evaluate", "export", "promote", "feedback"]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_with_a_wrong_parameter_exits_1_with_one_line(in_folder, name):
    section = "data" if name == "ingest" else name
    change(in_folder, f"{section}.nonsense", 1)
    ran = subprocess.run([sys.executable, "-m", f"pipelines.{name}"], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith(f"{name}: params.yaml: {section}.nonsense is unknown; known are ")


@pytest.mark.parametrize(
    "name", ["validate", "prepare", "labels", "synthesize", "train", "evaluate", "export", "promote"]
)
def test_a_stage_whose_input_is_missing_says_how_to_make_it(in_folder, name):
    ran = subprocess.run([sys.executable, "-m", f"pipelines.{name}"], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert "is missing; an earlier stage makes it: run dvc repro" in ran.stderr


def test_a_stage_outside_the_repository_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageError, match=r"params\.yaml is missing; stages run from the repository's root"):
        TrainParams.load()


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    with stage.writing(path) as half:
        half.write_text("old")
    with pytest.raises(ZeroDivisionError), stage.writing(path) as half:
        half.write_text(f"new {1 / 0}")
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_flat():
    assert stage.flat({"a": 1, "b": {"c": {"d": 2}}}) == {"a": 1, "b.c.d": 2}
