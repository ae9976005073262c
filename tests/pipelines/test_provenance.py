"""The revision, and whether the tree is dirty, in real git repositories."""

import subprocess

import pytest

from pipelines import paths, provenance


def git(*arguments):
    person = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    return subprocess.run(["git", *person, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(in_folder, monkeypatch):
    """A repository with one commit. It is the current folder."""
    monkeypatch.delenv("NEOCOG_REVISION", raising=False)
    for name in ("code.py", *provenance.WRITTEN_BY_A_RUN):
        (in_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (in_folder / name).write_text("before")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "a commit")
    return in_folder


def test_a_clean_tree_has_its_commit(repository):
    assert provenance.git_revision() == git("rev-parse", "HEAD")
    assert provenance.git_dirty() is False


@pytest.mark.parametrize("name", provenance.WRITTEN_BY_A_RUN)
def test_a_file_that_a_run_writes_does_not_make_the_tree_dirty(repository, name):
    (repository / name).write_text("after")
    (repository / "untracked.txt").write_text("new")
    assert provenance.git_dirty() is False


def test_a_changed_file_makes_the_tree_dirty(repository):
    (repository / "code.py").write_text("after")
    assert provenance.git_dirty() is True


def test_without_a_repository_the_revision_is_that_of_the_image(in_folder, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(in_folder.parent))
    monkeypatch.setenv("NEOCOG_REVISION", "abc")
    assert provenance.git_revision() == "abc"
    assert provenance.git_dirty() is None
    monkeypatch.delenv("NEOCOG_REVISION")
    assert provenance.git_revision() is None


def test_comments_and_layout_do_not_change_the_hash_of_the_parameters(in_folder):
    before = provenance.params_hash()
    paths.PARAMS.write_text("# a comment\n\n" + paths.PARAMS.read_text())
    assert provenance.params_hash() == before
    paths.PARAMS.write_text(paths.PARAMS.read_text().replace("seed: 0", "seed: 1", 1))
    assert provenance.params_hash() != before
