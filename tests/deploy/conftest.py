"""A Docker engine, and the project's images, really built.

The training image takes ten minutes, so its tests are deselected unless NEOCOG_TEST_TRAINING_IMAGE is set:
`make test-training-image` sets it.
"""

import os
import shutil

import pytest

from tests.clones import Clone
from tests.service.conftest import bundle_folder, serve, service  # noqa: F401 - fixtures


def pytest_configure(config):
    config.addinivalue_line("markers", "training_image: builds the training image; see tests/deploy/conftest.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    if os.environ.get("NEOCOG_TEST_TRAINING_IMAGE"):
        return
    left = [item for item in items if item.get_closest_marker("training_image")]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)


@pytest.fixture(scope="session")
def engine():
    """A client of the Docker engine. Skips where none answers."""
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env(timeout=120)
    except DockerException as error:
        said = str(error).splitlines()[0]
        pytest.skip(f"needs a Docker engine: apt-get install docker.io, then start dockerd ({said})")
    yield client
    client.close()


@pytest.fixture(scope="session")
def checkout(engine, first_run, tmp_path_factory):
    """A clone with the champion that a real run of the pipeline promoted: the image is built from it."""
    clone = Clone(tmp_path_factory.mktemp("checkout") / "clone")
    shutil.copytree(first_run[0].folder.parent / "promoted", clone.folder, dirs_exist_ok=True)
    return clone


@pytest.fixture(scope="session")
def build(engine, checkout):
    """Builds the serving image: on the bases that deploy/image/bases.sh made, if it has, else on the public ones."""
    offline = ["--offline"] if engine.images.list("neocog-base") else []

    def build(tag, *rest):
        command = ["python", "-m", "deploy.image.build", *offline, "--tag", tag, "--", *rest]
        ran = checkout.run(*command, GITHUB_REPOSITORY="someone/neocog", GITHUB_SERVER_URL="https://github.com")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return build


@pytest.fixture(scope="session")
def image(engine, build):
    """The serving image. `said` is what the build printed."""
    said = build("neocog-test")
    made = engine.images.get("neocog-test")
    made.said = said
    yield made
    engine.images.remove("neocog-test", force=True)
