"""The whole way, on the real default data: pipeline, registry, gate, service. One story, told in order."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import httpx2
import numpy as np
import pytest
from mlflow import MlflowClient

from model import bundle
from model.hashing import sha256
from model.predictor import Predictor
from pipelines.artefacts import Prepared, Split
from pipelines.ingest import digits
from tests.bundles import png
from tests.clones import stages_run

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own

STAGES = ["ingest", "validate", "prepare", "synthesize", "labels", "train", "evaluate", "export", "card", "promote"]


class Outcome:
    """What a command printed, and a copy of what it left: the tests come in any order, and the clone goes on."""

    def __init__(self, clone, ran, folder):
        self.ran = ran
        self.said = ran.stdout + ran.stderr
        self.stages = stages_run(ran)
        self.out = folder / "out"
        shutil.copytree(clone.folder / "out", self.out)
        log = clone.folder / "promotions.jsonl"
        self.promotions = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def read(self, name):
        return json.loads((self.out / name).read_text())


@pytest.fixture(scope="module")
def cold(first_run, tmp_path_factory):
    """The first `dvc repro` of a fresh clone."""
    return Outcome(*first_run, tmp_path_factory.mktemp("cold"))


@pytest.fixture(scope="module")
def warm(clone, cold, tmp_path_factory):
    """A second one, with nothing changed."""
    return Outcome(clone, clone.repro(), tmp_path_factory.mktemp("warm"))


@pytest.fixture(scope="module")
def refused(clone, warm, tmp_path_factory):
    """A third one, with a model that has hardly been trained."""
    clone.set("train", images_seen=3_000, passes=0)
    return Outcome(clone, clone.repro(), tmp_path_factory.mktemp("refused"))


@pytest.fixture(scope="module")
def experiment(clone, refused, tmp_path_factory):
    """A fourth one, as an experiment that changes what is evaluated, of the same bad model."""
    ran = clone.run("dvc", "exp", "run", "-S", "evaluate.calibration_bins=10")
    return Outcome(clone, ran, tmp_path_factory.mktemp("experiment"))


def test_every_stage_runs_once(cold):
    assert sorted(cold.stages) == sorted(STAGES)  # prepare and synthesize wait for nothing of each other
    assert "Traceback" not in cold.said


def test_a_second_time_nothing_runs(warm):
    assert warm.stages == []
    assert "Data and pipelines are up to date." in warm.said


def test_the_first_model_is_promoted_and_bound_to_all_it_was_made_of(clone, cold):
    [entry] = cold.promotions
    champion = bundle.read(cold.out / "champion")
    assert entry["model"] == champion.version
    assert entry["previous"] is None
    assert entry["by"]
    data = "".join(sha256(clone.folder / "data" / name) for name in ("prepared.npz", "synthetic.npz"))
    assert champion.sha256["data"] == hashlib.sha256(data.encode()).hexdigest()
    train = Prepared.load(clone.folder / "data" / "labels.npz").of(Split.TRAIN)[0]
    assert champion.sha256["labels"] == hashlib.sha256(train.tobytes()).hexdigest()  # of no label and no picture
    assert champion.git_dirty is False
    assert len(champion.git_revision) == 40
    known = cold.read("run.json")
    assert [champion.run, champion.mlflow_run_id] == [known["run"], known["mlflow_run_id"]]


def test_the_champion_reads_the_test_split_as_the_metrics_say(clone, cold):
    images, labels = Prepared.load(clone.folder / "data" / "prepared.npz").of(Split.TEST)
    said = Predictor.load(cold.out / "champion").probabilities(images).argmax(axis=1)
    metrics = cold.read("metrics.json")
    assert (said != labels).sum() == metrics["errors"]
    assert metrics["accuracy"] == pytest.approx((said == labels).mean())
    assert metrics["accuracy"] >= 0.985
    assert metrics["accuracy"] > metrics["baselines"]["logistic_regression"]["accuracy"]
    assert sum(row["images"] for row in metrics["per_class"].values()) == metrics["images"] == len(labels)


def test_the_bundle_equals_torch_on_every_test_image(cold):
    export = cold.read("export.json")
    assert export["images"] == cold.read("metrics.json")["images"]
    assert export["max_difference"] <= 1e-4


def test_the_bundle_names_no_folder_of_this_machine(clone, cold):
    for file in (cold.out / "bundle").iterdir():
        assert str(clone.folder).encode() not in file.read_bytes(), file.name
        assert b"site-packages" not in file.read_bytes(), file.name


def test_mlflow_has_one_run_with_everything(clone, cold):
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("neocog")
    [run] = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"], max_results=1)
    assert run.info.run_id == cold.read("run.json")["mlflow_run_id"]
    assert run.info.status == "FINISHED"
    assert run.data.params["data.source"] == "digits"
    assert {"loss", "validation_accuracy", "test.accuracy", "export.max_difference"} <= set(run.data.metrics)
    assert len(client.get_metric_history(run.info.run_id, "validation_accuracy")) > 5
    assert set(run.data.tags) >= {"git.revision", "git.dirty", "data.sha256", "labels.sha256", "params.sha256"}
    assert [i.dataset.name for i in run.inputs.dataset_inputs] == ["prepared"]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"plots", "bundles", "metrics.json", "gate.json", "gate.md", "model_card.md", "training.csv"} <= files


def test_a_changed_training_parameter_runs_from_train_on(refused):
    assert refused.stages == ["train", "evaluate", "export", "card", "promote"]


def test_a_bad_model_is_refused_and_changes_nothing(clone, cold, refused):
    assert refused.ran.returncode != 0
    assert re.search(r"promote: model [0-9a-f]{12} is refused: .*accuracy", refused.said)
    assert refused.promotions == cold.promotions
    gate = refused.read("gate.json")
    champion = bundle.read(refused.out / "champion")
    assert champion == bundle.read(cold.out / "champion")
    assert gate["passed"] is False
    assert gate["champion"] == champion.version != gate["challenger"]
    assert (refused.out / "gate.md").read_text().startswith(f"# Refused: model {gate['challenger']}")
    client = MlflowClient(f"sqlite:///{clone.folder}/mlflow.db")
    crowned = client.get_model_version_by_alias("neocog", "champion")
    assert crowned.run_id == cold.read("run.json")["mlflow_run_id"]
    assert client.get_model_version_by_alias("neocog", "challenger").run_id != crowned.run_id


def test_an_experiment_is_judged_and_never_promoted(refused, experiment):
    assert experiment.ran.returncode == 0, experiment.said
    assert experiment.stages == ["evaluate", "export", "card", "promote"]
    assert "would be refused: " in experiment.said
    assert experiment.read("gate.json")["passed"] is False
    assert experiment.promotions == refused.promotions
    assert bundle.read(experiment.out / "champion") == bundle.read(refused.out / "champion")


def test_the_same_seed_in_another_clone_gives_the_same_model(refused, other_clone):
    other_clone.set("train", images_seen=3_000, passes=0)
    ran = other_clone.repro("export")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    ours, theirs = (bundle.read(out / "bundle") for out in (refused.out, other_clone.folder / "out"))
    assert ours.sha256["model"] == theirs.sha256["model"]
    assert ours.sha256["golden.npz"] == theirs.sha256["golden.npz"]
    assert ours.run != theirs.run


def test_the_demo_reads_its_samples(clone, cold):
    ran = clone.run(sys.executable, "-m", "samples.demo", NEOCOG_BUNDLE=str(cold.out / "champion"))
    assert ran.returncode == 0, ran.stderr
    rows = re.findall(r"samples/\S+-(\d)\.png +(\d) +([\d.]+)% +curl -F image=@samples", ran.stdout)
    assert len(rows) == 6
    assert [said for _, said, _ in rows] == [drawn for drawn, _, _ in rows]


def test_the_champion_is_served_and_reads_held_out_digits(clone, cold):
    """A real process, a real client; the test split's pictures as they came from the source, magnified and inverted."""
    prepared = Prepared.load(clone.folder / "data" / "prepared.npz")
    rows = prepared.rows[prepared.splits == Split.TEST][:100]
    source = digits()
    env = {**os.environ, "NEOCOG_PORT": "0", "NEOCOG_BUNDLE": str(cold.out / "champion")}
    service = subprocess.Popen([sys.executable, "-m", "service"], env=env, stderr=subprocess.PIPE, text=True)
    try:
        address = next(found[1] for line in service.stderr if (found := re.search(r"running on (http://\S+)", line)))
        drain = threading.Thread(target=service.stderr.read)
        drain.start()
        right = 0
        with httpx2.Client(base_url=address) as client:
            for row in rows:
                picture = png(255 - np.kron(source.images[row], np.ones((6, 6), np.uint8)))
                answer = client.post("/predict", content=picture, headers={"Content-Type": "image/png"}).json()
                right += answer["digit"] == source.labels[row]
    finally:
        service.send_signal(signal.SIGTERM)
        service.wait(timeout=120)
        drain.join()
        service.stderr.close()
    assert right >= 95
