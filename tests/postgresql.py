"""A real PostgreSQL (Debian's ``postgresql``) on loopback, in a folder of its own. It refuses to run as root."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Row, create_engine, text
from sqlalchemy.exc import DBAPIError

from benchmarks.arms.reserved_ports import free_ports

VERSIONS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parts[-2]), reverse=True)
"""Where Debian has its programs."""
PROGRAMS = os.pathsep.join([*map(str, VERSIONS), os.environ.get("PATH", "")])
MISSING = "NO POSTGRESQL TESTS: no records were shared. Install it ('apt-get install postgresql')"
INSTALLED = bool(shutil.which("initdb", path=PROGRAMS) and shutil.which("postgres", path=PROGRAMS))
USER = "postgres"
"""Who runs it where the tests are root's; Debian's package makes that user."""
PASSWORD = "a-password"
LIMIT = 60.0
"""Seconds until it answers, or has ended."""


class Postgresql:
    """``start`` after ``kill`` is the same one again, on the same port.

    Args:
        folder: for its files; it becomes the user's who runs it.
    """

    def __init__(self, folder: Path) -> None:
        self._data, self._log = folder / "data", folder / "log"
        (self._port,) = free_ports(1)
        self._numbers = count(1)
        password = folder / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, password):
                shutil.chown(path, USER)
        options = ["--no-sync", "--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8"]
        self._run("initdb", *options, "--pwfile", str(password), "--pgdata", str(self._data)).wait(LIMIT)
        self.start()

    def start(self) -> None:
        told = {"port": self._port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        options = [word for name, value in told.items() for word in ("-c", f"{name}={value}")]
        self.process = self._run("postgres", "-D", str(self._data), *options)
        while True:  # it says so itself
            assert self.process.poll() is None, self._log.read_text()
            with suppress(DBAPIError):
                self.ask("SELECT 1")
                return

    def kill(self) -> None:
        """At once, as a machine that fails: what it had not finished is lost, and clients' connections break."""
        if self.process.poll() is None:
            self.hang(False)
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(LIMIT)

    def hang(self, hangs: bool = True) -> None:
        """Whether connections stand and nothing is answered, as by a network that has lost its way."""
        for one in [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children()]:
            one.suspend() if hangs else one.resume()

    def new_database(self) -> str:
        """The URL of an empty one."""
        name = f"records_{next(self._numbers)}"
        self.ask(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self._port}/{database}"

    def ask(self, order: str, url: str = "") -> list[Row[Any]]:
        return ask(url or self.url("postgres"), order)

    def _run(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        command = [str(shutil.which(program, path=PROGRAMS)), *words]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups", *command]
        with self._log.open("ab") as log:
            return subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def ask(place: str, order: str) -> list[Row[Any]]:
    """What records of either kind, a file or a URL, answer to an order; it is a transaction of its own."""
    postgresql = "://" in place
    engine = create_engine(place.replace("postgresql:", "postgresql+pg8000:") if postgresql else f"sqlite:///{place}")
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as rows:
            if postgresql:
                rows.exec_driver_sql("SET search_path TO cxr_cascade, public")
            answer = rows.execute(text(order))
            return list(answer) if answer.returns_rows else []
    finally:
        engine.dispose()


@contextmanager
def _running() -> Iterator[Postgresql]:
    if not INSTALLED:
        pytest.skip(MISSING)
    with tempfile.TemporaryDirectory(prefix="cxr-postgresql-", ignore_cleanup_errors=True) as folder:
        one = Postgresql(Path(folder))
        yield one
        one.kill()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """One for all tests that leave it as it is; each has a database of its own."""
    with _running() as one:
        yield one


@pytest.fixture
def own_postgresql() -> Iterator[Postgresql]:
    """One that a test may end."""
    with _running() as one:
        yield one


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not INSTALLED:
        terminalreporter.write_line(MISSING, yellow=True, bold=True)
