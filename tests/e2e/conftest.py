"""Two clones: one in which the story is told, and one to compare it with."""

import pytest

from tests.clones import Clone


@pytest.fixture(scope="module")
def clone(first_run):
    """The one whose first `dvc repro` is `cold`."""
    return first_run[0]


@pytest.fixture(scope="module")
def other_clone(tmp_path_factory):
    return Clone(tmp_path_factory.mktemp("second") / "clone")
