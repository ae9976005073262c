"""GitHub's workflows: they call what exists, and may no more than they must."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from scripts.ci.report import table
from tests.conftest import REPOSITORY

WORKFLOWS = {file.stem: yaml.safe_load(file.read_text()) for file in REPOSITORY.glob(".github/workflows/*.yml")}
JOBS = [(f"{name}-{job}", spec) for name, workflow in WORKFLOWS.items() for job, spec in workflow["jobs"].items()]
STEPS = [(job, step) for job, spec in JOBS for step in spec["steps"]]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
SCRIPTS = sorted(REPOSITORY.glob("scripts/**/*.sh"))


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
    assert spec["permissions"].get("contents") in ("read", "write")
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
    command = [sys.executable, "-m", "scripts.ci.report"]
    ran = subprocess.run(command, cwd=first_run[0].folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "of test images read rightly" in ran.stdout
    assert "<summary>The gate</summary>" in ran.stdout
