"""A watched bundle, and journals in SQLite and PostgreSQL."""

import pytest

from tests.journal.conftest import database, either, postgres, url  # noqa: F401 - fixtures
from tests.pipelines.watching.traffic import watched_bundle


@pytest.fixture(scope="session")
def predictor(tmp_path_factory):
    return watched_bundle(tmp_path_factory.mktemp("watched") / "bundle")
