"""GitHub's workflows: they call what exists, and may no more than they must."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile

import pytest
import yaml

from deploy.cluster import snapshot
from pipelines.report import table
from tests.conftest import REPOSITORY

WORKFLOWS = {file.stem: yaml.safe_load(file.read_text()) for file in REPOSITORY.glob(".github/workflows/*.yml")}
JOBS = [(f"{name}-{job}", spec) for name, workflow in WORKFLOWS.items() for job, spec in workflow["jobs"].items()]
STEPS = [(job, step) for job, spec in JOBS for step in spec["steps"]]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
SCRIPTS = sorted([*REPOSITORY.glob(".github/scripts/*.sh"), *REPOSITORY.glob("deploy/**/*.sh")])


def test_there_are_the_three():
    assert set(WORKFLOWS) == {"ci", "cd", "retrain"}


@pytest.mark.parametrize("step", [step for _, step in STEPS if "run" in step], ids=lambda step: step["run"])
def test_every_step_is_one_command_that_runs_at_a_desk_too(step):
    """No expression inside, either: what GitHub puts in for it would be run."""
    command, *rest = step["run"].split()
    if command == "make":
        assert len(rest) == 1
        assert rest[0] in TARGETS
    else:
        assert not rest
        assert os.access(REPOSITORY / command, os.X_OK)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nothing_is_allowed_at_the_top_and_runs_do_not_pile_up(name):
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {}
    assert "pull_request_target" not in workflow[True]  # YAML's `on`
    assert "concurrency" in workflow
    assert name == "ci" or workflow["concurrency"]["cancel-in-progress"] is False


@pytest.mark.parametrize(("job", "spec"), JOBS)
def test_every_job_has_a_time_and_its_own_permissions(job, spec):
    assert spec["timeout-minutes"] <= 60
    assert spec["permissions"].get("contents", "none") in ("none", "read", "write")
    assert not spec["runs-on"].endswith("latest")
    assert "write-all" not in str(spec["permissions"])


@pytest.mark.parametrize("file", sorted(REPOSITORY.glob(".github/workflows/*.yml")), ids=lambda file: file.name)
def test_every_action_is_pinned_by_its_commit_with_its_version_beside_it(file):
    used = re.findall(r"uses: (.*)", file.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


def test_an_action_has_one_version_everywhere():
    pins = {}
    for _, step in STEPS:
        if "uses" in step:
            action, _, commit = step["uses"].partition("@")
            assert pins.setdefault(action, commit) == commit


def test_no_checkout_leaves_its_token_behind():
    for job, step in STEPS:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, job


def test_a_release_takes_nothing_from_a_cache():
    for job, step in STEPS:
        if job.startswith("cd-"):
            assert "cache" not in str(step), job


def test_main_has_a_run_for_every_commit():
    """A concurrency group keeps one waiting run and drops the others, so on main it is the commit's."""
    concurrency = WORKFLOWS["ci"]["concurrency"]
    assert concurrency["group"] == "ci-${{ github.event_name == 'pull_request' && github.ref || github.sha }}"
    assert concurrency["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"


def test_the_scan_has_no_token_and_runs_where_it_can_alter_nothing_that_is_released():
    scans = {name: spec for name, spec in JOBS if "anchore/scan-action@" in str(spec)}
    assert set(scans) == {"ci-scan", "cd-scan"}
    for spec in scans.values():
        assert spec["permissions"] == {}
        assert [step["uses"].partition("@")[0] for step in spec["steps"]] == [
            "actions/download-artifact", "anchore/scan-action",
        ]  # fmt: skip
    assert scans["ci-scan"]["if"] == "github.event_name == 'pull_request'"  # main's run has the champion of a release
    jobs = WORKFLOWS["cd"]["jobs"]
    assert "scan" in jobs["push"]["needs"]
    for name in ("push", "attest", "release"):
        steps = [step.get("run", step.get("uses", "").partition("@")[0]) for step in jobs[name]["steps"]]
        received = steps.index("actions/download-artifact")
        assert steps[received + 1] == ".github/scripts/check_sums.sh", name


def test_only_the_job_that_attests_may_sign_and_it_does_not_where_github_would_refuse():
    assert [name for name, spec in JOBS if "id-token" in spec["permissions"]] == ["cd-attest"]
    signs = [step for step in WORKFLOWS["cd"]["jobs"]["attest"]["steps"] if "actions/attest@" in step.get("uses", "")]
    assert len(signs) == 2
    for step in signs:
        assert step["if"] == "github.event.repository.visibility != 'private'"
        assert "push-to-registry" not in step["with"]  # ghcr.io has one tag for all attestations of an image


def test_a_release_trains_nothing():
    assert not [step["run"] for job, step in STEPS if job.startswith("cd-") and step.get("run") == "make demo"]


def test_files_that_one_job_hands_to_another_are_made_by_it():
    for workflow in WORKFLOWS.values():
        steps = [step for spec in workflow["jobs"].values() for step in spec["steps"]]
        made = {s["with"]["name"] for s in steps if s.get("uses", "").startswith("actions/upload-artifact@")}
        taken = {s["with"]["name"] for s in steps if s.get("uses", "").startswith("actions/download-artifact@")}
        assert taken <= made


def test_everything_is_updated_after_a_while():
    updates = yaml.safe_load((REPOSITORY / ".github" / "dependabot.yml").read_text())["updates"]
    assert {update["package-ecosystem"] for update in updates} >= {"github-actions", "pip", "docker"}
    assert all(update["cooldown"]["default-days"] >= 7 for update in updates)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_every_script_is_shell_that_parses_and_stops_at_an_error(script):
    text = script.read_text()
    shell = "sh" if text.startswith("#!/bin/sh") else "bash"
    subprocess.run([shell, "-n", script], check=True)
    assert os.access(script, os.X_OK)
    assert shell == "sh" or re.search(r"^set -e?uo pipefail$", text, re.MULTILINE)


def test_the_report_compares_with_main():
    here = {"accuracy": 0.99, "log_loss": 0.1, "calibration_error": 0.01, "coverage": 1.0, "accuracy_answered": 0.99}
    assert "| of test images read rightly | 0.9900 | 0.9800 | +0.0100 |" in table(here, here | {"accuracy": 0.98})
    assert "no run of main to compare with" in table(here, None)


def test_the_report_is_made_of_what_the_pipeline_leaves(first_run):
    command = [sys.executable, "-m", "pipelines.report"]
    ran = subprocess.run(command, cwd=first_run[0].folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "of test images read rightly" in ran.stdout
    assert "<summary>The gate</summary>" in ran.stdout


FAKE = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$CALLS"
after() { local wanted=$1; shift; while [ $# -gt 0 ]; do [ "$1" != "$wanted" ] || { echo "$2"; return; }; shift; done; }
"""


class Desk:
    """A checkout of the scripts, and recording stand-ins for the programs that need GitHub, a registry or a cluster."""

    def __init__(self, folder):
        self.folder = folder / "checkout"
        self.programs = folder / "bin"
        self.calls_file = folder / "calls"
        self.output_file = folder / "output"
        shutil.copytree(REPOSITORY / ".github" / "scripts", self.folder / ".github" / "scripts")
        (self.folder / "deploy" / "image").mkdir(parents=True)
        shutil.copy2(REPOSITORY / "deploy" / "image" / "docker.sh", self.folder / "deploy" / "image")
        self.programs.mkdir()

    def program(self, name, does=""):
        file = self.programs / name
        file.write_text(FAKE + does)
        file.chmod(0o755)

    def write(self, name, text=""):
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, name):
        return (self.folder / name).read_text()

    def run(self, script, **env):
        known = {
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder.parent),
            "CALLS": str(self.calls_file),
            "STATE": str(self.folder.parent),
            "DOCKER": "docker",
            "GITHUB_OUTPUT": str(self.output_file),
            "GITHUB_REPOSITORY": "Someone/neocog",
            "GITHUB_SHA": "0123abc",
            "GITHUB_REF": "refs/tags/v1.2.3",
            "GITHUB_REF_NAME": "v1.2.3",
            "GH_TOKEN": "token",
            "IMAGE": "ghcr.io/Someone/neocog",
            "DIGEST": DIGEST,
            "REGISTRY_USER": "someone",
            "REGISTRY_TOKEN": "token",
        }
        command = [self.folder / ".github" / "scripts" / script]
        return subprocess.run(command, env=known | env, cwd=self.folder, capture_output=True, text=True)

    @property
    def calls(self):
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def bundle(self, folder, version="aaaaaaaaaaaa", data="d" * 64, params="e" * 64):
        manifest = {"version": version, "sha256": {"data": data, "params": params}}
        self.write(f"{folder}/manifest.json", json.dumps(manifest))


DIGEST = "sha256:" + "4" * 64


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


# A fork's run is the newest under --branch main; --event push leaves it out. Artifacts hold what their run left.
GITHUB = """
case "$1 $2" in
  "run list") case " $* " in *" --event push "*) echo "$RUN" ;; *) echo 666 ;; esac ;;
  "run download")
    [ "$3" = "$RUN" ] && [ -z "${EXPIRED:-}" ] || exit 1
    into=$(after --dir "$@")
    if [ "$(after --name "$@")" = metrics ]; then echo "{}" > "$into/metrics.json"; exit; fi
    mkdir -p "$into/out/champion" "$into/data"
    echo "of run $3" > "$into/out/champion/manifest.json"
    echo '{"time": "t", "model": "fromrun", "run": "r"}' > "$into/promotions.jsonl"
    touch "$into/data/raw.npz" "$into/data/prepared.npz" ;;
  "release download")
    [ -n "${RELEASED:-}" ] || exit 1
    cp "$RELEASED" "$(after --dir "$@")/champion.tar.gz" ;;
esac
"""


def test_the_champion_is_that_of_the_last_push_to_main_that_passed(desk):
    desk.program("gh", GITHUB)
    ran = desk.run("before.sh", RUN="7")
    assert ran.returncode == 0, ran.stderr
    assert desk.calls[0].startswith(
        "gh run list --repo Someone/neocog --workflow ci.yml --event push --branch main --status success --limit 1"
    )
    assert desk.read("out/champion/manifest.json") == "of run 7\n"
    assert desk.read("out/main/out/champion/manifest.json") == "of run 7\n"
    assert desk.read("out/main/metrics.json")
    assert "fromrun" in desk.read("promotions.jsonl")


def test_a_champion_of_the_checkout_stays_and_is_compared_with_mains(desk):
    desk.program("gh", GITHUB)
    desk.write("out/champion/manifest.json", "mine")
    desk.write("promotions.jsonl", "mine")
    desk.write("out/main/left.json", "of an earlier time")
    assert desk.run("before.sh", RUN="7").returncode == 0
    assert desk.read("out/champion/manifest.json") == desk.read("promotions.jsonl") == "mine"
    assert desk.read("out/main/out/champion/manifest.json") == "of run 7\n"
    assert not (desk.folder / "out/main/left.json").exists()


@pytest.mark.parametrize("github", [{"RUN": "7", "EXPIRED": "1"}, {"RUN": ""}], ids=["expired", "no run"])
def test_without_an_artifact_the_champion_is_the_newest_releases(desk, tmp_path, github):
    desk.program("gh", GITHUB)
    for name in ("out/champion/manifest.json", "promotions.jsonl", "out/image.tar", "out/sbom.json"):
        desk.write(name, "released")
    assert desk.run("sums.sh").returncode == 0
    released = shutil.move(desk.folder / "out/champion.tar.gz", tmp_path / "released.tar.gz")
    shutil.rmtree(desk.folder / "out")
    (desk.folder / "promotions.jsonl").unlink()
    ran = desk.run("before.sh", RELEASED=str(released), **github)
    assert ran.returncode == 0, ran.stderr
    assert desk.read("out/champion/manifest.json") == desk.read("promotions.jsonl") == "released"


def test_no_champion_anywhere_is_no_error(desk):
    desk.program("gh", GITHUB)
    ran = desk.run("before.sh", RUN="")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "before: ci.yml has not passed on main yet",
        "before: there is no champion to compare with, neither of main nor in a release",
    ]
    assert not (desk.folder / "out/champion").exists()


def test_a_github_that_does_not_answer_is_an_error_and_no_missing_champion(desk):
    desk.program("gh", "exit 1")
    assert desk.run("before.sh").returncode == 1


ANSWERS = """
count=$(wc -l < "$CALLS")
answer=$(sed -n "${count}p" "$STATE/answers")
[ "$answer" != error ] || exit 1
[ -z "$answer" ] || echo "$answer"
"""


def wait_for_ci(desk, *answers, **limits):
    """What .github/scripts/checked.sh does where GitHub answers these in turn."""
    desk.program("gh", ANSWERS)
    (desk.folder.parent / "answers").write_text("".join(f"{answer}\n" for answer in answers))
    return desk.run("checked.sh", PAUSE_SECONDS="0", **limits)


def test_a_release_waits_for_ci(desk):
    ran = wait_for_ci(desk, "", "", "7 queued ", "error", "7 in_progress ", "7 in_progress ", "7 completed success")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "checked: there is no run of ci.yml on main for 0123abc yet; waiting",
        "checked: run 7 of ci.yml is queued; waiting",
        "checked: GitHub could not be asked; waiting",
        "checked: run 7 of ci.yml is in_progress; waiting",
        "checked: ci.yml has passed on 0123abc (run 7)",
    ]
    assert desk.output_file.read_text() == "run=7\n"
    for call in desk.calls:
        assert "--workflow ci.yml --event push --branch main --commit 0123abc" in call


@pytest.mark.parametrize("conclusion", ["failure", "cancelled", "timed_out"])
def test_a_release_of_a_commit_on_which_ci_has_not_passed_fails_at_once(desk, conclusion):
    ran = wait_for_ci(desk, f"7 completed {conclusion}", "7 completed success")
    assert ran.returncode == 1
    assert len(desk.calls) == 1
    assert ran.stderr == (
        f"checked: ci.yml has not passed on 0123abc: run 7 is {conclusion};"
        " release a commit of main on which it has\n"
    )  # fmt: skip
    assert not desk.output_file.exists()


@pytest.mark.parametrize(
    ("answer", "looks", "said"),
    [
        ("7 in_progress ", 4, "checked: run 7 of ci.yml is in_progress, after 4 looks; when it has passed, run this"),
        ("error", 4, "checked: GitHub could not be asked, after 4 looks"),
        ("", 2, "checked: ci.yml did not run on 0123abc; release the last commit of a push to main"),
    ],
)
def test_a_release_does_not_wait_for_ever(desk, answer, looks, said):
    ran = wait_for_ci(desk, *[answer] * 9, LOOKS="4", LOOKS_TO_START="2")
    assert ran.returncode == 1
    assert len(desk.calls) == looks
    assert ran.stderr.startswith(said)


def test_a_release_takes_what_ci_judged_on_its_commit(desk):
    desk.program("gh", GITHUB)
    desk.write("out/champion/left.json", "of another model")
    desk.write("data/raw.npz", "other data")
    desk.write("promotions.jsonl", '{"time": "t", "model": "approved", "run": "r"}\n')
    ran = desk.run("judged.sh", RUN="7", CI_RUN="7")
    assert ran.returncode == 0, ran.stderr
    assert desk.calls[0].startswith("gh run download 7 --repo Someone/neocog --name champion")
    assert [file.name for file in (desk.folder / "out/champion").iterdir()] == ["manifest.json"]
    assert desk.read("data/raw.npz") == ""
    assert "fromrun" in desk.read("promotions.jsonl")
    assert "the committed promotions.jsonl ends with approved; CI trained fromrun" in ran.stdout


def test_what_a_later_job_receives_is_what_the_build_made(desk):
    for name in ("out/champion/manifest.json", "promotions.jsonl", "out/image.tar", "out/sbom.json"):
        desk.write(name, "made")
    first = desk.run("sums.sh").stdout
    os.utime(desk.folder / "promotions.jsonl", (0, 0))
    assert desk.run("sums.sh").stdout == first  # the same champion, the same archive
    assert desk.output_file.read_text() == f"sums<<end\n{first}end\n" * 2
    with tarfile.open(desk.folder / "out/champion.tar.gz") as archive:
        assert archive.getnames() == ["out/champion", "out/champion/manifest.json", "promotions.jsonl"]
    assert desk.run("check_sums.sh", SUMS=first.rstrip()).returncode == 0
    assert desk.run("check_sums.sh", SUMS="").returncode != 0
    desk.write("out/image.tar", "replaced")
    ran = desk.run("check_sums.sh", SUMS=first.rstrip())
    assert ran.returncode == 1
    assert "out/image.tar: FAILED" in ran.stdout


REGISTRY = """
case "$*" in
  *image.revision*) echo "$REVISION" ;;
  *RepoDigests*) printf '%s\\n' "ghcr.io/other/neocog@sha256:1" "ghcr.io/someone/neocog@sha256:2" "" ;;
esac
"""


@pytest.mark.parametrize(("tag", "version"), [("v1.2.3", "1.2.3"), ("v1.2.3-rc.1+build", "1.2.3-rc.1-build")])
def test_an_image_is_pushed_by_its_revision_and_its_version(desk, tag, version):
    desk.program("docker", REGISTRY)
    ran = desk.run("push_image.sh", REVISION="0123abc", GITHUB_REF_NAME=tag)
    assert ran.returncode == 0, ran.stderr
    pushed = [call for call in desk.calls if call.startswith("docker push")]
    assert pushed == [f"docker push --quiet ghcr.io/someone/neocog:{tag}" for tag in ("0123abc", version)]
    assert desk.output_file.read_text() == "digest=sha256:2\n"


def test_an_image_of_uncommitted_changes_is_not_pushed(desk):
    desk.program("docker", REGISTRY)
    ran = desk.run("push_image.sh", REVISION="0123abc-dirty")
    assert ran.returncode == 1
    assert ran.stderr.startswith("push: neocog:dev was built from uncommitted changes (0123abc-dirty)")
    assert not [call for call in desk.calls if "push" in call or "login" in call]


VERIFIES = """case "$(after --predicate-type "$@")" in ${ABSENT:-none}) exit 1 ;; esac"""


def test_an_image_is_verified_as_what_its_attestations_claim(desk):
    desk.program("docker")
    desk.program("gh", VERIFIES)
    assert desk.run("verify_image.sh", VISIBILITY="public").returncode == 0
    checks = [call for call in desk.calls if call.startswith("gh attestation verify")]
    assert [re.search(r"--predicate-type (\S+)", check)[1] for check in checks] == [
        "https://slsa.dev/provenance/v1", "https://cyclonedx.org/bom",
    ]  # fmt: skip
    for check in checks:
        assert check.startswith(f"gh attestation verify oci://ghcr.io/someone/neocog@{DIGEST} ")
        assert "--repo Someone/neocog --signer-workflow Someone/neocog/.github/workflows/cd.yml" in check
        assert check.endswith("--source-ref refs/tags/v1.2.3 --source-digest 0123abc")


@pytest.mark.parametrize("absent", ["https://slsa.dev/provenance/v1", "https://cyclonedx.org/bom"])
def test_an_image_without_one_of_its_attestations_is_refused(desk, absent):
    desk.program("docker")
    desk.program("gh", VERIFIES)
    assert desk.run("verify_image.sh", VISIBILITY="public", ABSENT=absent).returncode == 1


def test_only_a_private_repository_goes_without_attestations(desk):
    desk.program("docker")
    desk.program("gh", "exit 1")
    assert desk.run("verify_image.sh", VISIBILITY="private").returncode == 0
    assert not desk.calls
    for visibility in ("", "public", "internal"):
        assert desk.run("verify_image.sh", VISIBILITY=visibility).returncode != 0


@pytest.mark.parametrize(
    ("tag", "exists", "call"),
    [
        ("v1.2.3", "1", "gh release create v1.2.3 --repo Someone/neocog --verify-tag --title v1.2.3"),
        ("v1.2.3-rc.1", "1", "gh release create v1.2.3-rc.1 --repo Someone/neocog --verify-tag --title v1.2.3-rc.1"),
        ("v1.2.3", "0", "gh release upload v1.2.3 --repo Someone/neocog --clobber"),
    ],
)
def test_a_release_has_the_champion(desk, tag, exists, call):
    desk.program("gh", """[ "$2" != view ] || exit "$EXISTS" """)
    ran = desk.run("release.sh", GITHUB_REF_NAME=tag, EXISTS=exists)
    assert ran.returncode == 0, ran.stderr
    assert desk.calls[-1].startswith(call)
    assert desk.calls[-1].endswith("out/champion.tar.gz out/sbom.json")
    assert ("--prerelease" in desk.calls[-1]) == ("rc" in tag)


PULL_REQUESTS = """
case "$1 $2" in
  "api "*) echo "${KNOWN:-0}" ;;
  "pr create") [ -z "${FORBIDDEN:-}" ] || { echo "GitHub Actions is not permitted to create …" >&2; exit 1; } ;;
esac
"""


@pytest.fixture
def retrained(desk, tmp_path):
    """A checkout after `make demo`, whose remote is a repository on this disk. `branches()` are the remote's."""
    remote = tmp_path / "hub" / "Someone" / "neocog"
    subprocess.run(["git", "init", "-q", "--bare", remote], check=True)
    desk.program("gh", PULL_REQUESTS)
    desk.write("dvc.lock", "before")
    git = ["git", "-C", desk.folder, "-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "init", "-q", desk.folder], check=True)
    subprocess.run([*git, "add", "dvc.lock"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "before"], check=True)
    desk.write("dvc.lock", "after")
    desk.write("promotions.jsonl", '{"model": "bbbbbbbbbbbb"}\n')
    desk.write("out/gate.md", "# Passed")
    desk.bundle("out/main/out/champion", "aaaaaaaaaaaa")

    def git_at_remote(*arguments):
        return subprocess.run(["git", "-C", remote, *arguments], check=True, capture_output=True, text=True).stdout

    desk.remote = git_at_remote
    desk.branches = lambda: git_at_remote("branch", "--format=%(refname:short)").splitlines()
    desk.propose = lambda **env: desk.run("propose.sh", GITHUB_SERVER_URL=(tmp_path / "hub").as_uri(), **env)
    return desk


NEW = {"data": {"data": "f" * 64}, "params": {"params": "f" * 64}}


def test_other_weights_of_the_same_data_and_parameters_are_not_proposed(retrained):
    retrained.bundle("out/champion", "bbbbbbbbbbbb")
    ran = retrained.propose()
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "retrain: data and parameters are the champion's; nothing to propose\n"
    assert not retrained.calls
    assert not retrained.branches()


@pytest.mark.parametrize("what", NEW)
def test_new_data_and_new_parameters_are_proposed(retrained, what):
    retrained.bundle("out/champion", "bbbbbbbbbbbb", **NEW[what])
    ran = retrained.propose()
    assert ran.returncode == 0, ran.stderr
    [branch] = retrained.branches()
    assert branch.startswith("retrain-")
    assert retrained.remote("show", "--format=%s", "--name-only", branch).split() == [
        "Retrained:", "bbbbbbbbbbbb", "dvc.lock", "promotions.jsonl",
    ]  # fmt: skip
    assert retrained.calls[-1].startswith(f"gh pr create --repo Someone/neocog --head {branch} ")
    assert "token" not in " ".join(retrained.calls)


def test_the_same_data_are_proposed_once(retrained):
    retrained.bundle("out/champion", "bbbbbbbbbbbb", **NEW["data"])
    ran = retrained.propose(KNOWN="1")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "retrain: retrain-ffffffffffff-eeeeeeeeeeee has been proposed before; nothing to propose\n"
    assert "state=all&head=Someone:retrain-ffffffffffff-eeeeeeeeeeee" in retrained.calls[0]
    assert not retrained.branches()


def test_where_actions_may_open_no_pull_requests_no_branch_is_left(retrained):
    retrained.bundle("out/champion", "bbbbbbbbbbbb", **NEW["data"])
    ran = retrained.propose(FORBIDDEN="1")
    assert ran.returncode == 1
    assert not retrained.branches()
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("retrain: no pull request could be opened, so retrain-ffffffffffff-eeeeeeeeeeee is deleted")
    assert "Allow GitHub Actions to create and approve pull requests" in last


# The cluster is one file, the template of the Deployment's pods. FAILS names what goes wrong.
CLUSTER = """
case "$*" in
  "kustomize "*) exec "$KUBECTL" "$@" ;;
  "apply --dry-run=server "*) [ "$FAILS" != dry-run ] || { echo 'no matches for kind "Gateway"' >&2; exit 1; } ;;
  "get deployment "*) cat "$STATE/template" ;;
  "get --ignore-not-found "*) cat "$STATE/found.json" ;;
  "apply --filename "*/manifests.yaml) echo new > "$STATE/template"; cp "$3" "$STATE"; [ "$FAILS" != apply ] ;;
  "apply --filename "* | "delete --ignore-not-found --filename "*)
    for file; do :; done
    cp "$file" "$STATE"
    [[ $FAILS != *others || $file != */others.json ]] ;;
esac
"""
MAKE = """
case $1 in
  deploy) [ "$FAILS" != deploy ] || { cp "$STATE/ran" "$STATE/template"; exit 1; } ;; # goes back by itself
  rollback) cp "$STATE/ran" "$STATE/template" ;;
  verify) [[ $FAILS != verify* ]] ;;
esac
"""
OLD_IMAGE = "ghcr.io/someone/neocog@sha256:" + "3" * 64
OVERLAY = "deploy/overlays/cloud"


class Cluster:
    """.github/scripts/deploy.sh, with a cluster that has nothing yet, or what an earlier release left."""

    def __init__(self, desk):
        self.desk, self.state = desk, desk.folder.parent
        for name in ("k8s", "deploy"):
            shutil.copytree(REPOSITORY / name, desk.folder / name, dirs_exist_ok=True)
        desk.program("kubectl", CLUSTER)
        desk.program("make", MAKE)
        desk.program("docker")
        desk.write(".venv/bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n').chmod(0o755)
        (self.state / "found.json").touch()
        (self.state / "template").touch()
        for old, new in (("CLASS", "envoy"), ("digits.example.com", "digits.neocog.test")):
            file = desk.folder / OVERLAY / "gateway.yaml"
            file.write_text(file.read_text().replace(old, new))

    def has_run(self):
        """All of k8s/, applied with one image and switched to another since; no Gateway, no route."""
        items = []
        for file in sorted((REPOSITORY / "k8s").glob("*.yaml")):
            for applied in yaml.safe_load_all(file.read_text()):
                live = json.loads(json.dumps(applied))
                live["metadata"]["annotations"] = {snapshot.APPLIED: json.dumps(applied)}
                if live["kind"] == "Deployment":
                    live["spec"]["template"]["spec"]["containers"][0]["image"] = OLD_IMAGE
                items.append(live)
        (self.state / "found.json").write_text(json.dumps({"kind": "List", "items": items}))
        for name in ("ran", "template"):
            (self.state / name).write_text("old\n")

    def deploy(self, fails="", kubeconfig="apiVersion: v1"):
        kubectl = shutil.which("kubectl")
        return self.desk.run("deploy.sh", FAILS=fails, KUBECTL=kubectl, KUBECONFIG_CONTENT=kubeconfig)

    @property
    def steps(self):
        """The calls, without what only looks, and without folders that have another name each time."""
        looks = ("kubectl get all", "kubectl describe", "kubectl logs")
        return [re.sub(r"\S+/(\w+\.\w+)$", r"\1", call) for call in self.desk.calls if not call.startswith(looks)]

    def objects(self, file):
        """Kinds and objects of a file that was put back, or deleted."""
        path = self.state / file
        return {one["kind"]: one for one in json.loads(path.read_text())["items"]} if path.exists() else {}


@pytest.fixture
def cluster(desk):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is missing: https://kubernetes.io/docs/tasks/tools/")
    return Cluster(desk)


APPLIED_AND_RELEASED = [
    "make install-dev",
    "kubectl apply --dry-run=server --filename manifests.yaml",
    "kubectl get --ignore-not-found --output json --filename manifests.yaml",
    "kubectl get deployment neocog --namespace neocog --ignore-not-found --output jsonpath={.spec.template}",
    "kubectl apply --filename manifests.yaml",
    f"make deploy IMAGE=ghcr.io/someone/neocog@{DIGEST}",
    "make verify",
]
LOOK = APPLIED_AND_RELEASED[3]


def test_a_deployment_asks_first_applies_then_and_verifies_last(cluster):
    cluster.has_run()
    before = cluster.desk.read(f"{OVERLAY}/kustomization.yaml")
    ran = cluster.deploy()
    assert ran.returncode == 0, ran.stderr
    assert cluster.steps[0].startswith("kubectl kustomize")
    assert cluster.steps[1:] == APPLIED_AND_RELEASED
    applied = list(yaml.safe_load_all((cluster.state / "manifests.yaml").read_text()))
    [image] = [d["spec"]["template"]["spec"]["containers"][0]["image"] for d in applied if d["kind"] == "Deployment"]
    assert image == f"ghcr.io/someone/neocog@{DIGEST}"
    assert cluster.desk.read(f"{OVERLAY}/kustomization.yaml") == before


def test_placeholders_are_refused_before_the_cluster_is_asked_anything(cluster):
    shutil.copytree(REPOSITORY / OVERLAY, cluster.desk.folder / OVERLAY, dirs_exist_ok=True)
    ran = cluster.deploy()
    assert ran.returncode == 1
    assert ran.stderr == (
        "deploy: deploy/overlays/cloud still has placeholders: CLASS digits.example.com;"
        " its kustomization.yaml says what to edit\n"
    )  # fmt: skip
    assert [call.split()[1] for call in cluster.steps] == ["kustomize"]


def test_placeholders_of_an_image_are_refused_too(cluster):
    kustomization = cluster.desk.folder / OVERLAY / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("newName: ghcr.io/OWNER", '"newName": ghcr.io/OWNER'))
    kustomization.write_text(kustomization.read_text().replace("digest: sha256", '"digest": sha256'))
    ran = cluster.deploy()
    assert ran.returncode == 1
    assert f"placeholders: OWNER sha256:{'0' * 64};" in ran.stderr
    assert [call.split()[1] for call in cluster.steps] == ["kustomize"]


def test_what_the_cluster_refuses_is_not_applied_in_part(cluster):
    cluster.has_run()
    ran = cluster.deploy(fails="dry-run")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == (
        "deploy: the cluster refuses deploy/overlays/cloud, see above; nothing was changed"
    )  # fmt: skip
    assert cluster.steps[1:] == APPLIED_AND_RELEASED[:2]


PUT_BACK = [
    "kubectl apply --filename others.json",
    LOOK,
    "make rollback",
    "kubectl apply --filename service.json",
    "kubectl rollout status deployment/neocog --namespace neocog --timeout 300s",
    "kubectl delete --ignore-not-found --filename new.json",
]


@pytest.mark.parametrize(
    ("fails", "done", "back"),
    [
        ("apply", APPLIED_AND_RELEASED[:5], PUT_BACK),
        ("deploy", APPLIED_AND_RELEASED[:6], [step for step in PUT_BACK if step != "make rollback"]),
        ("verify", APPLIED_AND_RELEASED, PUT_BACK),
    ],
)
def test_whatever_fails_what_ran_before_is_put_back(cluster, fails, done, back):
    """`make deploy` goes back by itself, and a second rollback would go back to the release before that."""
    cluster.has_run()
    ran = cluster.deploy(fails=fails)
    assert ran.returncode == 1
    assert cluster.steps[1:] == done + back
    assert ran.stderr.splitlines()[-1] == (
        f"deploy: ghcr.io/someone/neocog@{DIGEST} failed; what ran before is back"
    )  # fmt: skip
    [service] = cluster.objects("service.json").values()
    assert service["spec"]["template"]["spec"]["containers"][0]["image"] == OLD_IMAGE
    assert "annotations" not in service["metadata"]
    others = cluster.objects("others.json")
    assert others["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == 2  # the overlay asks for 3
    assert set(cluster.objects("new.json")) == {"Gateway", "HTTPRoute", "NetworkPolicy"}


def test_what_cannot_be_put_back_stops_nothing_else_and_is_said(cluster):
    cluster.has_run()
    ran = cluster.deploy(fails="verify, others")
    assert ran.returncode == 1
    assert cluster.steps[1:] == APPLIED_AND_RELEASED + PUT_BACK
    assert ran.stderr.splitlines()[-1] == (
        f"deploy: ghcr.io/someone/neocog@{DIGEST} failed; not everything could be put back, see above"
    )  # fmt: skip


def test_a_first_deployment_that_fails_leaves_nothing_that_answers(cluster):
    ran = cluster.deploy(fails="verify")
    assert ran.returncode == 1
    assert cluster.steps[1:] == [*APPLIED_AND_RELEASED, PUT_BACK[-1]]
    new = cluster.objects("new.json")
    assert {"Deployment", "Service", "HTTPRoute"} <= set(new)
    assert "Namespace" not in new  # it holds Secrets that a person put there
    assert ran.stderr.splitlines()[-1].endswith("nothing ran before, and what was created is deleted")


def test_without_a_cluster_kind_gets_the_release(cluster):
    ran = cluster.deploy(kubeconfig="")
    assert ran.returncode == 0, ran.stderr
    image = f"ghcr.io/someone/neocog@{DIGEST}"
    assert [step for step in cluster.steps if step.startswith(("docker pull", "docker tag", "make"))] == [
        f"docker pull --quiet {image}", f"docker tag {image} neocog:dev",
        "make kind-up PLAIN=1", f"make deploy IMAGE={image}", "make verify",
    ]  # fmt: skip


def test_a_release_that_fails_in_kind_is_rolled_back(cluster):
    for name in ("ran", "template"):
        (cluster.state / name).write_text("of kind-up\n")
    cluster.desk.program("make", MAKE.replace("deploy)", "deploy) echo released > $STATE/template;"))
    ran = cluster.deploy(fails="verify", kubeconfig="")
    assert ran.returncode == 1
    assert [step for step in cluster.steps if step.startswith("make")][-2:] == ["make verify", "make rollback"]
    assert ran.stderr.splitlines()[-1].endswith("failed; what ran before is back")


def test_an_object_that_apply_did_not_make_is_named_and_left_alone(capsys):
    live = {"kind": "Service", "metadata": {"name": "neocog", "namespace": "neocog"}}
    assert snapshot.split([live], [live]) == {"service": [], "others": [], "new": []}
    assert "Service/neocog/neocog was not made by kubectl apply" in capsys.readouterr().err
