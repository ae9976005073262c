"""The training image, built and run as the cluster runs it. `make test-training-image`; deselected otherwise."""

import time
import urllib.request

import pytest
import yaml

from tests.clones import Clone
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.training_image

SEALED = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "environment": {"HOME": "/tmp"},
    "detach": True,
}


def container(file, kind):
    """The one container of a manifest in deploy/."""
    documents = yaml.safe_load_all((REPOSITORY / "deploy" / file).read_text())
    [spec] = [document["spec"] for document in documents if document["kind"] == kind]
    spec = spec["jobTemplate"]["spec"] if kind == "CronJob" else spec
    return spec["template"]["spec"]["containers"][0]


@pytest.fixture(scope="module")
def training(engine, tmp_path_factory):
    """The image, built on the bases that `deploy/image/bases.sh training` made, if it has, else on the public ones."""
    clone = Clone(tmp_path_factory.mktemp("training") / "clone")
    offline = ["--offline"] if engine.images.list("neocog-builder-training") else []
    command = ["python", "-m", "deploy.image.build", *offline, "--target", "training", "--tag", "neocog-test-training"]
    ran = clone.run(*command, GITHUB_REPOSITORY="someone/neocog", GITHUB_SERVER_URL="https://github.com")
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    head = clone.run("git", "rev-parse", "HEAD").stdout.strip()
    assert ran.stdout.endswith(f"image: neocog-test-training runs the pipeline, built from {head}\n")
    yield engine.images.get("neocog-test-training")
    engine.images.remove("neocog-test-training", force=True)


def test_it_computes_on_the_cpu_and_is_no_larger_than_it_must(engine, training):
    said = engine.containers.run(training, ["python", "-c", "import torch; print(torch.version.cuda)"], remove=True)
    assert said == b"None\n"  # CUDA's libraries would be gigabytes
    assert 0.5e9 < training.attrs["Size"] < 2.5e9
    assert training.attrs["Config"]["User"] == "65532:65532"


def test_its_labels_say_what_it_is(training):
    labels = training.labels
    assert labels["org.opencontainers.image.title"] == "neocog-training"
    assert labels["org.opencontainers.image.source"] == "https://github.com/someone/neocog"
    assert f"NEOCOG_REVISION={labels['org.opencontainers.image.revision']}" in training.attrs["Config"]["Env"]


def test_the_jobs_command_runs_the_whole_pipeline_sealed_and_without_a_network(engine, training):
    job = container("training/cronjob.yaml", "CronJob")
    work = {"/work": "size=3g,uid=65532,exec", "/tmp": "size=512m,uid=65532"}
    command = [*job["command"][:2], f"{job['command'][2]} && test -e out/champion/manifest.json"]
    command[2] = command[2].replace("exec ", "")  # a test comes after it
    running = engine.containers.run(
        training, command, working_dir=job["workingDir"], network_mode="none", tmpfs=work, **SEALED
    )
    try:
        ended = running.wait(timeout=7200)  # the Job's activeDeadlineSeconds
        assert ended["StatusCode"] == 0, running.logs().decode()[-4000:]
    finally:
        running.remove(force=True, v=True)


def test_mlflows_server_answers_sealed(engine, training):
    server = container("platform/20-mlflow.yaml", "Deployment")
    options = SEALED | {"environment": {"HOME": "/tmp", "MLFLOW_BACKEND_STORE_URI": "sqlite:////tmp/mlflow.db"}}
    running = engine.containers.run(
        training, server["command"], tmpfs={"/tmp": "size=512m"}, ports={"5000/tcp": ("127.0.0.1", None)}, **options
    )
    try:
        assert healthy(running), running.logs().decode()[-4000:]
    finally:
        running.remove(force=True, v=True)


def healthy(running):
    """Whether /health answers before the container ends; after five minutes it is no."""
    for _ in range(300):
        running.reload()
        if running.status not in ("created", "running"):
            return False
        if ports := running.ports.get("5000/tcp"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]['HostPort']}/health", timeout=5) as answer:
                    return answer.read() == b"OK"
            except OSError:
                pass
        time.sleep(1)
    return False
