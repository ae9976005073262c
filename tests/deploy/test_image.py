"""The serving image, built and run by a real engine."""

import concurrent.futures
import contextlib
import json
import re
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bench.bodies import HOSTILE
from bench.bombs import COSTLY
from deploy.image.build import BASES, docker, public, source
from deploy.image.measure import SEALED, address, ask, first_answer
from model import bundle
from model.canonical import canonical
from model.canonical.images import decode
from model.predictor import Predictor
from tests.bundles import DIGITS, make_bundle, png
from tests.clones import Clone
from tests.conftest import REPOSITORY

FOREIGN = {"torch", "mlflow", "dvc", "sklearn", "scipy", "matplotlib", "pip", "setuptools", "pipelines", "onnx"}
COMMANDS = {
    "sh",
    "bash",
    "dash",
    "busybox",
    "gcc",
    "cc",
    "ld",
    "strip",
    "pip",
    "pip3",
    "apt",
    "apt-get",
    "dpkg",
    "curl",
}


@pytest.fixture(scope="module")
def listing(engine, image):
    """Every file of the image: its path and how it is there."""
    container = engine.containers.create(image)
    try:
        stream = subprocess.Popen([docker(), "export", container.id], stdout=subprocess.PIPE)
        with stream, tarfile.open(fileobj=stream.stdout, mode="r|") as archive:
            return {member.name: member for member in archive}
    finally:
        container.remove(v=True)


@pytest.fixture(scope="module")
def container(engine, image):
    """It runs, sealed, and is ready."""
    running = engine.containers.run(image, **SEALED)
    first_answer(running, time.perf_counter())
    yield running
    running.remove(force=True, v=True)


def get(container, path):
    with urllib.request.urlopen(address(container) + path, timeout=5) as response:
        return json.load(response)


def post(container, body):
    request = urllib.request.Request(address(container) + "/predict", body, {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=5) as response:
        return json.load(response)


def test_it_is_small(image):
    above = re.search(r"above the base \| ([\d.]+) \| ([\d.]+)", image.said)
    print(image.said)
    unpacked, compressed = map(float, above.groups())
    assert 20 < unpacked <= 170
    assert 10 < compressed <= 60


def test_it_holds_the_service_and_nothing_to_build_or_train_with(listing):
    packages = {
        path.split("/")[2] for path in listing if path.startswith(("app/lib/", "app/code/")) and path.count("/") > 2
    }
    assert {"onnxruntime", "fastapi", "service", "model"} <= packages
    assert not FOREIGN & packages
    commands = {path.rpartition("/")[2] for path in listing if re.match(r"(usr/(local/)?)?s?bin/", path)}
    assert "python3" in commands
    assert not COMMANDS & commands
    assert not [path for path in listing if path.endswith((".pyi", ".pyx", ".h", ".a"))]


def test_nothing_of_the_checkout_but_the_bundle_and_the_code_is_in_it(listing):
    ours = {path for path in listing if path.startswith("app/") and not path.startswith(("app/lib", "app/compiled"))}
    assert {path.split("/")[1] for path in ours if "/" in path} == {"bundle", "code"}
    bundled = {path for path in ours if path.startswith("app/bundle/")}
    assert bundled == {f"app/bundle/{name}" for name in ("golden.npz", "manifest.json", "model.onnx", "reference.npz")}


def test_the_golden_answers_are_identical(container, checkout):
    local = Predictor.load(checkout.folder / "out" / "champion")
    golden = bundle.Golden.parse(bundle.load(checkout.folder / "out" / "champion").golden)
    for picture in [*golden.encoded, *map(png, DIGITS)]:
        [expected] = local.predict(canonical(decode(picture))[None])
        said = post(container, picture)
        assert said["digit"] == expected.digit
        assert said["probabilities"] == pytest.approx(expected.probabilities.tolist(), abs=1e-6)


def test_it_runs_as_nobody_sealed(container):
    status = container.exec_run(["/usr/bin/python3", "-c", "print(open('/proc/1/status').read())"]).output.decode()
    said = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert said["Uid"].split() == ["65532"] * 4
    assert said["CapEff"] == said["CapBnd"] == "0000000000000000"
    assert said["NoNewPrivs"] == "1"
    assert container.exec_run(["/usr/bin/python3", "-c", "open('/app/x', 'w')"]).exit_code == 1
    assert container.exec_run(["/bin/sh", "-c", "true"]).exit_code in (126, 127)
    assert not container.diff()


def test_what_it_reads_is_journaled_in_its_volume(container):
    count = "execute('SELECT count(*) FROM predictions').fetchone()[0]"
    read = f"import sqlite3; print(sqlite3.connect('/data/journal.db').{count})"
    ask(address(container))
    for _ in range(50):
        ran = container.exec_run(["/usr/bin/python3", "-c", read])
        if ran.exit_code == 0 and int(ran.output) > 0:
            return
        time.sleep(0.1)
    pytest.fail(ran.output.decode())


def test_its_logs_hold_no_error_and_no_warning(container):
    lines = [json.loads(line) for line in container.logs().decode().splitlines()]
    assert lines
    assert {line["level"] for line in lines} == {"info"}


MIX_SECONDS = 20


def test_the_worst_mix_stays_within_the_memory_that_the_cluster_allows(engine, image):
    """All that takes memory at the same time, in a container with the manifest's limit: nothing is killed for it."""
    [spec] = yaml.safe_load((REPOSITORY / "k8s" / "30-deployment.yaml").read_text())["spec"]["template"]["spec"][
        "containers"
    ]
    limit = int(spec["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
    running = engine.containers.run(image, **SEALED | {"mem_limit": limit, "memswap_limit": limit})
    try:
        first_answer(running, time.perf_counter())
        url = address(running)
        over = time.monotonic() + MIX_SECONDS
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            pictures = [pool.submit(again_and_again, url, "/predict", data, over) for data in COSTLY.values()]
            bodies = [
                pool.submit(again_and_again, url, hostile.path, hostile.body, over, hostile.content_type)
                for hostile in list(HOSTILE.values())[:6]
            ]
            kept = json.dumps({"images": ["eA=="] * 250}).encode()  # refusals of 35 kB, to be kept for each key
            keys = [pool.submit(again_and_again, url, "/predict/batch", kept, over, key=f"{i}") for i in range(8)]
            stalled = [upload(url) for _ in range(60)]
            peak = 0
            while time.monotonic() < over:
                peak = max(peak, anonymous(running))
                time.sleep(0.5)
            codes = [code for future in [*pictures, *bodies, *keys] for code in future.result()]
        for connection in stalled:
            connection.close()
        print(f"{len(codes)} answers; at most {peak / 2**20:.0f} MiB of {limit / 2**20:.0f}")
        assert {200, 413, 415} & set(codes)
        assert not {code for code in codes if code >= 500 and code != 503}
        assert "oom_kill 0" in inside(
            running, "/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"
        )
        assert post(running, png(DIGITS[3]))["digit"] == 3
    finally:
        running.remove(force=True, v=True)


def again_and_again(url, path, data, over, kind="image/png", key=None):
    """Sends a request until the time is `over`. Returns the codes of the answers."""
    codes = []
    while time.monotonic() < over:
        headers = {"Content-Type": kind} | ({"Idempotency-Key": f"{key}-{len(codes)}"} if key else {})
        try:
            with urllib.request.urlopen(urllib.request.Request(url + path, data, headers), timeout=120) as answer:
                codes.append(answer.status)
        except urllib.error.HTTPError as refused:
            codes.append(refused.code)
            refused.close()
        except OSError:
            pass  # it was cut off in the middle of its body, as it may be
    return codes


def upload(url):
    """A connection that has sent most of a large body."""
    connection = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
    with contextlib.suppress(OSError):  # it was cut off already
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + bytes(2_000_000))
    return connection


def anonymous(container):
    """Bytes of memory that are no copy of a file."""
    statistics = inside(container, "/sys/fs/cgroup/memory.stat", "/sys/fs/cgroup/memory/memory.stat")
    return int(re.search(r"^(?:total_rss|anon) (\d+)", statistics, re.MULTILINE)[1])


def inside(container, *paths):
    """What the first of these files says that the container has: the second one is that of older kernels."""
    read = f"import os; print(open(next(p for p in {paths} if os.path.exists(p))).read())"
    return container.exec_run(["/usr/bin/python3", "-c", read]).output.decode()


def test_docker_knows_that_it_is_healthy(engine, image):
    running = engine.containers.run(image, healthcheck={"interval": 500_000_000}, **SEALED)
    try:
        assert health(running, "healthy")
        assert running.exec_run(["/usr/bin/python3", "-S", "-m", "service.health"]).exit_code == 0
        nobody = {"NEOCOG_PROBE_PORT": "9"}
        assert running.exec_run(["/usr/bin/python3", "-S", "-m", "service.health"], environment=nobody).exit_code == 1
    finally:
        running.remove(force=True, v=True)


def health(container, wanted):
    for _ in range(100):
        container.reload()
        if container.attrs["State"]["Health"]["Status"] == wanted:
            return True
        time.sleep(0.1)
    return False


def test_it_stops_within_five_seconds_under_load_and_answers_what_it_has(engine, image):
    running = engine.containers.run(image, **SEALED)
    try:
        first_answer(running, time.perf_counter())
        where, stopping = address(running), False
        broken = []

        def load():
            while not stopping:
                try:
                    ask(where)
                except urllib.error.HTTPError as error:  # an answer, and a wrong one
                    broken.append(error)
                except OSError:
                    return

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for _ in range(8):
                pool.submit(load)
            time.sleep(1)
            begun = time.monotonic()
            running.stop(timeout=30)
            took, stopping = time.monotonic() - begun, True
        assert took < 5
        assert running.wait()["StatusCode"] == 0
        assert not broken
    finally:
        running.remove(force=True, v=True)


def test_labels_version_and_manifest_agree_and_the_gate_let_it_pass(container, image, checkout):
    manifest = bundle.read(checkout.folder / "out" / "champion")
    labels, said = image.labels, get(container, "/version")
    promoted = json.loads((checkout.folder / "promotions.jsonl").read_text().splitlines()[-1])
    assert labels["neocog.bundle.version"] == said["version"] == manifest.version == promoted["model"]
    assert labels["neocog.bundle.run"] == said["run"] == manifest.run == promoted["run"]
    for name in ("model", "data", "params"):
        assert labels[f"neocog.bundle.{name}.sha256"] == said["sha256"][name] == manifest.sha256[name]
    assert labels["neocog.bundle.revision"] == said["git_revision"] == manifest.git_revision
    head = checkout.run("git", "rev-parse", "HEAD").stdout.strip()
    assert labels["org.opencontainers.image.revision"] == said["service"]["revision"] == head
    assert labels["org.opencontainers.image.version"] == said["service"]["version"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.source"] == "https://github.com/someone/neocog"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["org.opencontainers.image.created"])


def test_two_builds_have_the_same_layers(engine, image, build):
    build("neocog-test-again", "--no-cache")
    try:
        again = engine.images.get("neocog-test-again")
        assert again.attrs["RootFS"]["Layers"] == image.attrs["RootFS"]["Layers"]
        assert again.attrs["Config"] == image.attrs["Config"]
    finally:
        engine.images.remove("neocog-test-again", force=True)


def test_other_code_changes_no_layer_of_the_libraries(engine, image, checkout, build):
    module = checkout.folder / "service" / "health.py"
    before = module.read_text()
    module.write_text(before + "\n# another\n")
    try:
        build("neocog-test-other")
        other = engine.images.get("neocog-test-other").attrs["RootFS"]["Layers"]
    finally:
        module.write_text(before)
        engine.images.remove("neocog-test-other", force=True)
    same = [a == b for a, b in zip(image.attrs["RootFS"]["Layers"], other, strict=True)]
    # Of the last six: libraries, what is compiled of them, code, what is compiled of it, bundle, data.
    assert same[-6:] == [True, True, False, False, True, True]


def test_the_sbom_lists_what_is_in_it(image, checkout, listing):
    ran = checkout.run("python", "-m", "deploy.image.sbom", "neocog-test")
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(ran.stdout) is None
    found = {(part["name"].lower().replace("_", "-"), part["version"]) for part in said["components"]}
    installed = {path.split("/")[2] for path in listing if path.endswith(".dist-info/METADATA")}
    for name, version in (folder.removesuffix(".dist-info").rsplit("-", 1) for folder in installed):
        assert (name.lower().replace("_", "-"), version) in found
    [libc] = [part for part in said["components"] if part["name"] == "libc6"]
    assert re.search(r"distro=debian-\d+&upstream=glibc", libc["purl"])  # or no scanner finds it in Debian's advisories
    assert [part["name"] for part in said["components"] if part["type"] == "operating-system"] == ["debian"]
    [model] = [part for part in said["components"] if part["type"] == "machine-learning-model"]
    assert model["hashes"][0]["content"] == bundle.read(checkout.folder / "out" / "champion").sha256["model"]


def test_a_bundle_that_fails_its_golden_answers_makes_no_image(engine, image, checkout, tmp_path):
    bad = Clone(tmp_path / "clone")
    manifest = make_bundle(bad.folder / "out" / "champion", canonical_version="0")
    (bad.folder / "promotions.jsonl").write_text(json.dumps({"model": manifest.version}) + "\n")
    offline = ["--offline"] if engine.images.list("neocog-base") else []
    ran = bad.run("python", "-m", "deploy.image.build", *offline, "--tag", "neocog-test-bad")
    assert ran.returncode == 1
    assert "prove: /app/bundle: the model was trained on canonical version 0" in ran.stdout + ran.stderr
    assert not engine.images.list("neocog-test-bad")


def test_a_bundle_that_the_gate_did_not_let_pass_makes_no_image(engine, tmp_path):
    clone = Clone(tmp_path / "clone")
    ran = clone.run("python", "-m", "deploy.image.build")
    assert ran.returncode == 1
    assert ran.stderr == "image: no bundle at out/champion: manifest.json is missing; `dvc repro` makes one\n"
    manifest = make_bundle(clone.folder / "out" / "champion")
    ran = clone.run("python", "-m", "deploy.image.build")
    assert ran.returncode == 1
    assert f"out/champion is {manifest.version}, but the last model in promotions.jsonl is none" in ran.stderr


def test_the_engine_is_sent_neither_secrets_nor_data_nor_git(engine, tmp_path):
    """A context with all that lies about on a developer's machine, and an image that takes everything it gets."""
    context = tmp_path / "context"
    for name in (
        ".env", ".git/config", ".netrc", ".venv/x", "service/.env", "service/tls.key", "model/secret.pem", "mlflow.db",
        "journal.db-wal", "data/raw.npz", "runs/1/events.jsonl", "out/bundle/model.onnx", "kubeconfig", "tests/x.py",
        "service/__pycache__/x.pyc", "service/app.py", "out/champion/model.onnx", "pyproject.toml",
    ):  # fmt: skip
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("x")
    (context / "Dockerfile").write_text('FROM scratch\nCOPY . /\nCMD ["x"]\n')
    (context / ".dockerignore").write_text((REPOSITORY / ".dockerignore").read_text())
    made, _ = engine.images.build(path=str(context), tag="neocog-test-context", rm=True)
    try:
        saved = subprocess.run([docker(), "save", made.id], stdout=subprocess.PIPE, check=True).stdout
        (tmp_path / "image.tar").write_bytes(saved)
        with tarfile.open(tmp_path / "image.tar") as archive:
            [layer] = json.load(archive.extractfile("manifest.json"))[0]["Layers"]
            with tarfile.open(fileobj=archive.extractfile(layer)) as files:
                sent = {member.name for member in files if member.isfile()}
    finally:
        engine.images.remove(made.id, force=True)
    assert sent == {"service/app.py", "out/champion/model.onnx", "pyproject.toml"}


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://github.com/someone/neocog.git", "https://github.com/someone/neocog"),
        ("https://someone:token@github.com/someone/neocog", "https://github.com/someone/neocog"),
        ("git@github.com:someone/neocog.git", "https://github.com/someone/neocog"),
        ("ssh://git@git.example.org:2222/group/neocog.git/", "https://git.example.org/group/neocog"),
        ("/srv/git/neocog.git", ""),
        ("file:///srv/git/neocog.git", ""),
        ("../neocog", ""),
        ("", ""),
    ],
)
def test_the_source_is_the_remote_on_the_web_and_holds_no_token(tmp_path, monkeypatch, remote, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    subprocess.run(["git", "init", "-q"], check=True)
    if remote:
        subprocess.run(["git", "remote", "add", "origin", remote], check=True)
    assert source() == expected


def test_dependabot_reads_the_images_that_are_built_on():
    """Of a Dockerfile it reads the FROM lines with a literal image and a tag, and no argument."""
    starts = set(re.findall(r"^FROM (\S+) AS \w+$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE))
    literal = {image for image in starts if re.fullmatch(r"[a-z0-9][\w./-]*:[\w.@:-]+", image)}
    arguments = {image[2:-1] for image in starts - literal if image.startswith("$")}
    assert arguments == {base for bases in BASES.values() for base in bases}
    assert {public(base) for base in arguments} == literal
    assert {image for image in starts - literal if not image.startswith("$")} == {"tools"}  # a stage


def test_dependabot_watches_every_folder_of_manifests_with_a_public_image():
    updates = yaml.safe_load((REPOSITORY / ".github" / "dependabot.yml").read_text())["updates"]
    [watched] = [update["directories"] for update in updates if update["package-ecosystem"] == "docker"]
    manifests = [*REPOSITORY.glob("deploy/**/*.yaml"), *REPOSITORY.glob("k8s/*.yaml")]
    images = {
        (file, image) for file in manifests for image in re.findall(r"^[\s-]*image: (\S+)", file.read_text(), re.M)
    }
    public_ones = {file for file, image in images if not image.startswith("neocog")}
    assert {"/", *(f"/{file.parent.relative_to(REPOSITORY)}" for file in public_ones)} == set(watched)
    assert all(":" in image for _, image in images)
