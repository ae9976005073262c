"""A watched bundle."""

import pytest

from tests.pipelines.watching.traffic import watched_bundle


@pytest.fixture(scope="session")
def predictor(tmp_path_factory):
    return watched_bundle(tmp_path_factory.mktemp("watched") / "bundle")
