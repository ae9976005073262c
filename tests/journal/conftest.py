"""A journal in SQLite, and in a real PostgreSQL that comes and goes."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from journal.ids import new_id
from tests.service.conftest import bundle_folder, serve  # noqa: F401 - fixtures


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/journal.db"


class Postgres:
    """A server of its own, in a folder of its own; started, stopped and killed for real."""

    def __init__(self, folder):
        found = [
            Path(name) for name in (shutil.which("pg_ctl"), *Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")) if name
        ]
        if not found:
            pytest.skip("needs PostgreSQL: apt-get install postgresql")
        self._bin, self._data = found[0].parent, folder / "data"
        self._as = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        folder.chmod(0o777)
        self._run("initdb", "-D", self._data, "-U", "neocog", "-A", "trust", "--no-sync")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._folder = folder
        self.url = f"postgresql://neocog@127.0.0.1:{self.port}/postgres"
        self.start()

    def _run(self, program, *arguments):
        command = [*self._as, str(self._bin / program), *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300, cwd="/")

    def start(self):
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self._folder / "log", "-o", options, "start")

    def stop(self, mode="immediate"):
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    @contextlib.contextmanager
    def silent(self):
        """Stops its processes. The kernel goes on taking connections and acknowledging what is sent."""
        server = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        server.suspend()  # first, so that it starts no more
        stopped = [server, *server.children(recursive=True)]
        try:
            for process in stopped[1:]:
                with contextlib.suppress(psutil.NoSuchProcess):  # its connection was just closed
                    process.suspend()
            yield
        finally:
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()


@pytest.fixture(scope="module")
def postgres():
    # Not in pytest's own folder: every session of pytest closes that to other users, such as PostgreSQL's.
    with tempfile.TemporaryDirectory(prefix="neocog-postgres-") as folder:
        server = Postgres(Path(folder))
        yield server
        server.stop("fast")


@pytest.fixture
def database(postgres):
    """The URL of an empty database."""
    name = f"test_{new_id()}"
    admin = sa.create_engine(postgres.url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    admin.dispose()
    return postgres.url.removesuffix("postgres") + name


@pytest.fixture(params=["url", "database"], ids=["sqlite", "postgresql"])
def either(request):
    return request.getfixturevalue(request.param)
