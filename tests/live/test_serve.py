"""'make serve' and 'make stop': the gateway as a process in front of TorchServe."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from handlers.report import parse_answer
from workflows import gateway_process
from workflows.register import predict
from workflows.server import Server, ServerError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(server: Server, tmp_path: Path, free_ports, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The gateway's environment; it is ended afterwards."""
    (port,) = free_ports(1)
    told = {"CXR_PORT": str(port), "CXR_SECRETS": str(tmp_path / "secrets")}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    yield told
    gateway_process.stop(server)


def command(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "workflows.serve", *words, "--server", str(server.folder)]
    return subprocess.run(arguments, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)


def test_make_serve_says_where_films_go_and_where_the_first_key_lies(server: Server, settings, film_paths) -> None:
    said = command(server)
    assert said.returncode == 0, said.stderr
    key = Path(settings["CXR_SECRETS"]) / "first.key"
    url = f"http://127.0.0.1:{settings['CXR_PORT']}"
    assert said.stdout.splitlines()[-2:] == [
        f"ready: POST {url}/v1/reports   (key: {key})",
        f"ready: {url}/ in a browser       (it asks for the key)",
    ]
    film = film_paths[0].read_bytes()
    headers = {"Authorization": f"Bearer {key.read_text().strip()}"}
    answer = httpx.post(f"{url}/v1/reports", content=film, headers=headers, timeout=60)
    assert answer.status_code == 200
    assert parse_answer(answer.content) == predict(server, film)
    process = gateway_process.running(server)
    assert process is not None
    again = command(server)  # the ports are its own
    assert again.returncode == 0, again.stderr
    assert gateway_process.running(server) == process
    assert {one.laddr.ip for one in process.net_connections() if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_a_gateway_of_the_same_code_and_settings_is_left_alone(server: Server, settings, monkeypatch) -> None:
    gateway_process.start(server)
    first = gateway_process.running(server)
    gateway_process.start(server)
    assert gateway_process.running(server) == first
    monkeypatch.setenv("CXR_PLACES", "31")
    gateway_process.start(server)
    assert gateway_process.running(server) not in (None, first)
    gateway_process.stop(server)
    assert gateway_process.running(server) is None
    gateway_process.stop(server)


def test_a_taken_port_is_said_with_what_to_do(server: Server, settings) -> None:
    port = int(settings["CXR_PORT"])
    said = (
        rf"cannot listen on 127.0.0.1, port {port} \(CXR_PORT\): process {os.getpid()} .*CXR_PORT={port + 1} make serve"
    )
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ServerError, match=said):
        gateway_process.start(server)
    with socket.create_server(("127.0.0.1", port)):  # before TorchServe, too
        refused = command(server)
    assert refused.returncode == 1
    assert re.search(said, refused.stderr)
    assert refused.stdout == ""


def test_a_gateway_that_ends_at_once_says_why(server: Server, settings, monkeypatch) -> None:
    (server.folder / "logs" / "gateway.log").write_text('{"level": "ERROR", "message": "of last week"}\n')
    monkeypatch.setattr(gateway_process, "READY_LIMIT", 3600.0)
    monkeypatch.setattr(gateway_process, "require_free", lambda *_: None)  # it is taken after the look
    port = int(settings["CXR_PORT"])
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ServerError, match=r"the gateway has ended .*address already in use"),
    ):
        gateway_process.start(server)


def test_a_setting_that_is_none_is_named(server: Server, settings, monkeypatch) -> None:
    monkeypatch.setenv("CXR_PLACES", "many")
    with pytest.raises(ServerError, match="places"):
        gateway_process.start(server)


def test_a_process_id_that_is_another_program_s_now_is_left_alone(server: Server, settings) -> None:
    (server.folder / "logs" / "gateway.pid").write_text(f"{os.getpid()}\n")
    assert gateway_process.running(server) is None
    gateway_process.stop(server)
