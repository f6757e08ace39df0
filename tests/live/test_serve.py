"""'make serve' and 'make stop': the gateway as a process in the background, with TorchServe as its child."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.arms.torchserve import configure
from gateway import background
from gateway.settings import Settings
from handlers.report import parse_answer
from tests.gateway.stand_in import content
from training.archive import archive
from workflows import torchserve
from workflows.register import predict
from workflows.server import Server, ServerError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What 'make archive' writes."""
    store = tmp_path_factory.mktemp("packed")
    archive(run, store, "1.0.0", "float32")
    return store


@pytest.fixture
def settings(packed: Path, tmp_path: Path, free_ports, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Of a gateway in a folder of its own, told by the environment; it is ended afterwards."""
    folder = tmp_path / "server"
    shutil.copytree(packed, folder / "model_store")
    configure(folder)
    (port,) = free_ports(1)
    told = Settings(server=folder, port=port, secrets=tmp_path / "secrets")
    for name in ("server", "port", "secrets"):
        monkeypatch.setenv(f"CXR_{name.upper()}", str(getattr(told, name)))
    yield told
    background.stop(told)


def command(action: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "gateway.background", action]
    return subprocess.run(arguments, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_make_serve_says_where_films_go_and_make_stop_leaves_nothing(settings: Settings, film_paths) -> None:
    server = Server.of_folder(settings.server)
    said = command("start")
    assert said.returncode == 0, said.stderr
    key = settings.secrets / "first.key"
    url = f"http://127.0.0.1:{settings.port}"
    assert said.stdout.splitlines()[-3:] == [
        f"ready: POST {server.inference}/wfpredict/chest_xray",
        f"ready: POST {url}/v1/reports   (key: {key})",
        f"ready: {url}/ in a browser       (it asks for the key)",
    ]
    film = film_paths[0].read_bytes()
    headers = {"Authorization": f"Bearer {key.read_text().strip()}"}
    answer = httpx.post(f"{url}/v1/reports", content=film, headers=headers, timeout=60)
    assert answer.status_code == 200
    assert parse_answer(json.dumps(content(answer))) == predict(server, film)
    gateway = background.running(server)
    assert gateway is not None
    assert {one.laddr.ip for one in gateway.net_connections() if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}

    again = command("start")  # of the same code and settings: it is left alone, and the ports are its own
    assert again.returncode == 0, again.stderr
    assert background.running(server) == gateway
    os.environ["CXR_MAX_WAITING"] = "31"
    try:
        other = command("start")
    finally:
        del os.environ["CXR_MAX_WAITING"]
    assert other.returncode == 0, other.stderr
    new = background.running(server)
    assert new not in (None, gateway)
    assert not gateway.is_running()

    unpacked = {Path(process.cwd()) for process in torchserve.running(server)[1:]}
    assert len(unpacked) == 2
    assert command("stop").returncode == 0
    assert background.running(server) is None
    assert torchserve.running(server) == []
    assert not any(folder.parents[1].exists() for folder in unpacked)
    assert not (settings.server / "logs" / "gateway.pid").exists()
    assert command("stop").returncode == 0


def test_what_torchserve_cannot_start_on_is_said_and_nothing_is_left(settings: Settings) -> None:
    path = settings.server / "config.properties"
    path.write_text(path.read_text().replace("-Xmx1g", "-XX:+UseFoo"))
    said = command("start")
    assert said.returncode == 1
    assert "error: TorchServe has ended: Unrecognized VM option 'UseFoo'" in said.stderr
    assert background.running(Server.of_folder(settings.server)) is None


def test_a_taken_port_is_said_with_what_to_do_before_anything_starts(settings: Settings) -> None:
    port = settings.port
    with socket.create_server(("127.0.0.1", port)):
        said = command("start")
    assert said.returncode == 1
    assert re.fullmatch(
        rf"error: the gateway cannot listen on 127.0.0.1, port {port} \(CXR_PORT\): process {os.getpid()} .*"
        rf"CXR_PORT={port + 1} make serve\n",
        said.stderr,
    )
    assert said.stdout == ""
    assert not (settings.server / "logs" / "console.log").exists()


def test_a_gateway_that_ends_at_once_says_why(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (settings.server / "logs" / "gateway.log").write_text('{"level": "ERROR", "message": "of last week"}\n')
    monkeypatch.setattr("workflows.ports.require_free", lambda *_: None)  # it is taken after the look
    with (
        socket.create_server(("127.0.0.1", settings.port)),
        pytest.raises(ServerError, match=r"the gateway has ended: .*address already in use"),
    ):
        background.start(settings, [])


def test_a_setting_that_is_none_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_MAX_WAITING", "many")
    said = command("start")
    assert said.returncode == 2
    assert "max_waiting" in said.stderr


@pytest.mark.parametrize("change", [b"", b"a letter"])
def test_a_damaged_store_is_said_before_anything_starts(settings: Settings, change: bytes) -> None:
    (settings.server / "model_store" / "disease.mar").write_bytes(change)
    said = command("start")
    assert said.returncode == 1
    assert "model_store/disease.mar is not the file that 'make archive' wrote" in said.stderr
    assert background.running(Server.of_folder(settings.server)) is None


def test_a_process_id_that_is_another_program_s_now_is_left_alone(settings: Settings) -> None:
    note = {"pid": os.getpid(), "started": 1.0, "fingerprint": ""}
    (settings.server / "logs" / "gateway.pid").write_text(json.dumps(note))
    assert background.running(Server.of_folder(settings.server)) is None
    background.stop(settings)
