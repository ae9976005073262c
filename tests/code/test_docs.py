"""What the documents say is so."""

import re
import subprocess

import pytest
import yaml

from service.settings import Settings
from tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


def test_the_settings_table_is_the_settings_class():
    rows = [
        f"| `NEOCOG_{name.upper()}` | `{field.default}` | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    page = (REPOSITORY / "docs" / "settings.md").read_text()
    table = [line for line in page.splitlines() if line.startswith("| `NEOCOG_")]
    assert table == rows


def test_make_help_lists_every_target_that_is_for_people():
    command = ["make", "--no-print-directory", "help"]
    shown = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert {line.split()[1] for line in shown.splitlines()} == TARGETS
    phony = re.findall(r"^\.PHONY: (.*)", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert set(" ".join(phony).split()) == TARGETS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_is_named_exists(page):
    named = re.findall(r"(?:`|; |^)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    assert set(named) <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_figure_is_left_to_fill_in(page):
    assert not re.search(r"@[A-Z]+@|TBD|XXX", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_parameter_that_is_named_exists(page):
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for section, name in re.findall(
        r"`(data|validate|prepare|labels|train|evaluate|export|promote|feedback)\.([a-z_]+)[`:]", page.read_text()
    ):
        if name not in ("py", "json", "npz"):
            assert name in params[section], f"{section}.{name}"


def test_hooks_call_what_exists():
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {hook["entry"].removeprefix("make ") for hook in hooks} <= TARGETS
