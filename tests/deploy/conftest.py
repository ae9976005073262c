"""A Docker engine, and the project's images, really built."""

import shutil

import pytest

from tests.clones import Clone
from tests.service.conftest import bundle_folder, serve  # noqa: F401 - fixtures


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
    """A clone with the champion that a real run of the pipeline promoted: what an image is built of."""
    clone = Clone(tmp_path_factory.mktemp("checkout") / "clone")
    shutil.copytree(first_run[0].folder.parent / "promoted", clone.folder, dirs_exist_ok=True)
    return clone


@pytest.fixture(scope="session")
def build(engine, checkout):
    """Builds the serving image: from public bases, or from those of scripts/image/bases.sh where they are."""
    offline = ["--offline"] if engine.images.list("neocog-base") else []

    def build(tag, *rest):
        ran = checkout.run("python", "-m", "scripts.image.build", *offline, "--tag", tag, "--", *rest)
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
