"""'make serve' leaves a gateway alone that is up to date, and ends none before its successor can start.

TorchServe's Java is a script here; with the real one: ``tests/live/test_serve.py``.
"""

import hashlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import httpx
import psutil
import pytest

from benchmarks.arms.torchserve import configure
from gateway import background
from gateway.settings import Settings
from tests.gateway.test_child import SERVES, models, pack
from tests.workflows.fake_java import make_java
from workflows import dag_executor, jvm, torchserve
from workflows.server import Server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path, free_ports) -> Iterator[Settings]:
    """Of a gateway that does not run, with a pair that is packed."""
    folder = tmp_path / "server"
    folder.mkdir()
    configure(folder)
    (folder / "behaviour").write_text(SERVES)
    compiled = folder / dag_executor.CLASSES / dag_executor.STAMP
    compiled.parent.mkdir(parents=True)
    compiled.write_text(hashlib.sha256(dag_executor.SOURCE.read_bytes()).hexdigest())
    pack(Server.of_folder(folder), "first")
    (port,) = free_ports(1)
    one = Settings(server=folder, port=port, secrets=tmp_path / "secrets")
    told = {f"CXR_{name.upper()}": str(getattr(one, name)) for name in ("server", "port", "secrets")}
    with patch.dict(os.environ, JAVA_HOME=str(make_java(tmp_path / "java")), **told):
        yield one
        background.stop(one)


def command(action: str, *words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "gateway.background", action, *words]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)


def started(settings: Settings, *words: str) -> psutil.Process:
    """The gateway that runs after ``start``, whose TorchServe reads films."""
    said = command("start", *words)
    assert said.returncode == 0, said.stderr
    assert httpx.get(f"http://127.0.0.1:{settings.port}/health/ready").is_success
    gateway = background.running(Server.of_folder(settings.server))
    assert gateway is not None
    return gateway


def test_it_is_left_alone_until_its_settings_its_configuration_or_what_is_packed_change(settings: Settings) -> None:
    server = Server.of_folder(settings.server)
    gateway = started(settings)
    assert started(settings) == gateway

    narrow = started(settings, "--max_waiting", "31")
    assert narrow != gateway
    assert started(settings, "--max_waiting", "31") == narrow

    with (settings.server / "config.properties").open("a") as file:
        file.write("# a remark\n")
    changed = started(settings, "--max_waiting", "31")
    assert changed != narrow

    pack(server, "second")
    assert started(settings, "--max_waiting", "31") != changed
    assert models(server) == ["first", "first", "first", "second"]

    assert command("stop").returncode == 0
    assert background.running(server) is None
    assert torchserve.running(server) == []


def test_a_gateway_that_was_started_otherwise_is_known_too(settings: Settings) -> None:
    with subprocess.Popen([sys.executable, "-m", "gateway"], cwd=ROOT, stdout=subprocess.DEVNULL) as own:
        while background.running(Server.of_folder(settings.server)) is None:
            assert own.poll() is None
        assert started(settings).pid == own.pid
        assert command("stop").returncode == 0
        assert own.wait() == 0


def test_what_hinders_a_new_one_leaves_the_old_one_running(settings: Settings, free_ports) -> None:
    server = Server.of_folder(settings.server)
    gateway = started(settings)
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        said = command("start", "--port", str(port))
    assert said.returncode == 1
    assert re.match(rf"error: the gateway cannot listen on 127.0.0.1, port {port} \(CXR_PORT\): process ", said.stderr)
    pack(server, "second")
    (server.store.parent / "disease.mar").write_text("damaged")
    said = command("start")
    assert said.returncode == 1
    assert "model_store/disease.mar is not the file that 'make archive' wrote" in said.stderr
    assert background.running(server) == gateway
    assert httpx.get(f"http://127.0.0.1:{settings.port}/health/ready").is_success
    assert models(server) == ["first"]


def test_a_step_of_the_clock_makes_neither_the_gateway_nor_torchserve_a_stranger(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server.of_folder(settings.server)
    with background.noted(settings):
        jvm.note(server.folder, psutil.Process())
        usual = psutil.Process.create_time
        monkeypatch.setattr(psutil.Process, "create_time", lambda process: usual(process) + 80.0)
        assert background.running(server) == psutil.Process()
        assert jvm.of_folder(server.folder) == [psutil.Process()]
        (settings.server / "logs" / "torchserve.pid").write_text(f"{os.getpid()} {jvm.started(psutil.Process(1))}\n")
        assert jvm.of_folder(server.folder) == []
        jvm.forget(server.folder)


@pytest.mark.parametrize("note", ["", "null", "{}", '{"pid": -1, "started": 0}', '{"pid": "x"}', '{"pid": %d}'])
def test_a_note_that_is_none_of_a_gateway_s_names_no_process(settings: Settings, note: str) -> None:
    path = settings.server / "logs" / "gateway.pid"
    path.write_text(note.replace("%d", str(os.getpid())))
    assert background.running(Server.of_folder(settings.server)) is None
    background.stop(settings)
