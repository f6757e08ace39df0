"""A server's folder with ports of its own, and programs that hold ports."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest

from benchmarks.arms.torchserve import configure
from tests.workflows.fake_java import JVM, make_java
from workflows import jvm, torchserve
from workflows.server import Server, ServerError

Holder = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """With a ``config.properties`` and a Java that is a script; what is started is ended, the environment restored."""
    one = tmp_path / "server"
    one.mkdir()
    configure(one)
    with patch.dict(os.environ, JAVA_HOME=str(make_java(tmp_path / "java"))):
        yield one
    torchserve.end(Server(one, "", "", "", one))


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Holder]:
    """Runs Python in another process until it has printed a line; it is ended afterwards."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, *arguments: str, cwd: Path = tmp_path) -> subprocess.Popen[str]:
        program = f"import socket, sys\n{code}\nprint('there', flush=True)\nsys.stdin.read()"
        command = [sys.executable, "-c", program, *arguments]
        one = subprocess.Popen(command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(one)
        assert one.stdout is not None
        assert one.stdout.readline() == "there\n"
        return one

    yield run
    for one in started:
        one.kill()
        one.wait()


def change(folder: Path, **settings: object) -> Server:
    """The server, its ``config.properties`` with other settings; None removes one."""
    path = folder / "config.properties"
    lines = [line for line in path.read_text().splitlines() if line.partition("=")[0] not in settings]
    lines += [f"{name}={value}" for name, value in settings.items() if value is not None]
    path.write_text("\n".join(lines) + "\n")
    return Server.of_folder(folder)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that waited for the time limit of a start would not end."""
    monkeypatch.setattr(torchserve, "START_LIMIT", 3600.0)


@pytest.fixture
def server(folder: Path) -> Server:
    return Server.of_folder(folder)


def behave(server: Server, code: str) -> None:
    """What the Java that is a script does instead of answering."""
    (server.folder / "behaviour").write_text(code)


def refusal(server: Server) -> str:
    with pytest.raises(ServerError) as refused:
        torchserve.start(server)
    return str(refused.value)


def start_by_hand(server: Server, code: str = "") -> psutil.Process:
    """Not by ``torchserve.start``: there is no note of it, and no console.log."""
    program = [sys.executable, "-c", code or JVM, jvm.MAIN_CLASS]
    return psutil.Process(subprocess.Popen(program, cwd=server.folder).pid)
