"""What a server's folder says of it, and that its tokens go to its own TorchServe alone."""

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import psutil
import pytest

from tests.workflows.conftest import Holder, change
from tests.workflows.fake_java import JVM
from workflows import jvm
from workflows.register import predict
from workflows.server import KEY_FILE, ForeignServer, Server, ServerDown, ServerError, WrongToken

REFUSED = json.dumps({"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed."})


class Recorder(ThreadingHTTPServer):
    """A program on TorchServe's port that says the same to everything, and keeps what it was sent."""

    def __init__(self, port: int, status: int, body: str) -> None:
        super().__init__(("127.0.0.1", port), Recording)
        self.status, self.body, self.heard = status, body.encode(), b""
        self.on_token: Callable[[], object] = lambda: None

    def handle_error(self, *_: object) -> None:
        """A client that hung up."""


class Recording(BaseHTTPRequestHandler):
    server: Recorder

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        self.server.heard += self.raw_requestline
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self.server.heard += str(self.headers).encode()
        if self.path.startswith("/token"):
            self.server.on_token()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


def port_of(server: Server) -> int:
    return int(server.inference.rpartition(":")[2])


@pytest.fixture
def server(folder: Path) -> Server:
    """Not up, but its key file lies there."""
    write_keys(folder, timedelta(hours=1))
    return Server.of_folder(folder)


def write_keys(folder: Path, valid: timedelta, name: str = "secret") -> None:
    expires = (datetime.now(UTC) + valid).isoformat().replace("+00:00", "Z")
    keys = {kind: {"key": f"{name}-{kind}", "expiration time": expires} for kind in ("inference", "management", "API")}
    (folder / KEY_FILE).write_text(json.dumps(keys))


@pytest.fixture
def foreign(server: Server) -> Iterator[Callable[[int, str], Recorder]]:
    """Starts a program on the server's inference port."""
    started: list[Recorder] = []

    def start(status: int, body: str) -> Recorder:
        started.append(Recorder(port_of(server), status, body))
        threading.Thread(target=started[-1].serve_forever, args=(0.01,), daemon=True).start()
        return started[-1]

    yield start
    for one in started:
        one.shutdown()
        one.server_close()


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, "Healthy"), (200, '{"status": "Healthy"}'), (404, "nothing here"), (400, REFUSED), (401, ""), (302, "")],
)
def test_another_program_on_the_port_is_never_sent_a_token(server: Server, foreign, status: int, body: str) -> None:
    other = foreign(status, body)
    assert not server.alive()
    with pytest.raises(ForeignServer, match=f"on 127.0.0.1, port {port_of(server)}, listens process"):
        predict(server, b"a film")
    for kind in ("inference", "management"):
        with pytest.raises(ForeignServer, match="it was sent no token"):
            server.call("GET", f"{server.inference}/anything", kind)
    assert other.heard == b""


@pytest.mark.parametrize("port", ["inference", "management"])
def test_a_token_that_needs_renewal_is_not_sent_to_another_program_either(server: Server, foreign, port: str) -> None:
    write_keys(server.folder, timedelta(hours=-1))
    if port == "management":
        server = replace(server, management=server.inference, inference=server.management)
    other = foreign(400, REFUSED)
    with pytest.raises(ServerDown):
        server.call("GET", f"{server.inference}/ping", "inference")
    assert other.heard == b""


def test_a_token_is_renewed_once_before_it_expires_and_kept(server: Server, foreign) -> None:
    write_keys(server.folder, timedelta(seconds=5))
    own = foreign(200, "")
    jvm.note(server.folder, psutil.Process())
    own.on_token = lambda: write_keys(server.folder, timedelta(hours=1), "renewed")
    auth = replace(server, management=server.inference).auth("inference")
    with httpx.Client(auth=auth) as client:
        for _ in range(3):
            client.get(f"{server.inference}/ping")
    assert own.heard.count(b"GET /token?type=inference") == 1
    assert own.heard.count(b"Bearer secret-API") == 1
    assert own.heard.count(b"Bearer renewed-inference") == 3
    assert b"secret-inference" not in own.heard


def test_a_token_that_stays_refused_is_said_after_three_renewals(server: Server, foreign) -> None:
    own = foreign(400, REFUSED)
    jvm.note(server.folder, psutil.Process())
    with pytest.raises(WrongToken, match=r"refuses the inference token in .*key_file\.json"):
        replace(server, management=server.inference).call("GET", f"{server.inference}/ping", "inference")
    assert own.heard.count(b"GET /ping") == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"inference": {}}',
        '{"inference": "key"}',
        '{"inference": {"key": "x", "expiration time": 5}}',
    ],
)
def test_a_key_file_that_holds_no_key_is_named(server: Server, text: str) -> None:
    (server.folder / KEY_FILE).write_text(text)
    with pytest.raises(WrongToken, match=rf"{server.folder}/key_file\.json holds no inference key .*'make stop serve'"):
        server.token("inference")


def test_a_key_file_that_cannot_be_read_is_named(server: Server) -> None:
    (server.folder / KEY_FILE).unlink()
    (server.folder / KEY_FILE).mkdir()
    with pytest.raises(WrongToken, match=r"key_file\.json holds no inference key"):
        server.token("inference")
    (server.folder / KEY_FILE).rmdir()


def test_the_torchserve_of_another_folder_is_not_sent_this_one_s_token(server: Server, tmp_path: Path, hold) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.properties").write_text((server.folder / "config.properties").read_text())
    owner = hold(
        JVM.replace("listen().serve_forever()", "threading.Thread(target=listen().serve_forever, daemon=True).start()"),
        jvm.MAIN_CLASS,
        cwd=other,
    )
    with pytest.raises(
        ForeignServer, match=rf"listens process {owner.pid} \(the TorchServe of {re.escape(str(other))}"
    ):
        server.call("GET", f"{server.inference}/ping", "inference")
    assert not (other / "asked").exists()


def test_a_program_that_never_answers_is_named_at_once(server: Server) -> None:
    with socket.create_server(("127.0.0.1", port_of(server))), pytest.raises(ForeignServer):
        server.call("GET", f"{server.inference}/ping", "inference", timeout=3600)


def test_the_server_s_own_torchserve_is_sent_its_token(server: Server, foreign) -> None:
    own = foreign(200, "Healthy")
    jvm.note(server.folder, psutil.Process())
    assert server.alive()
    assert b"Authorization: Bearer secret-inference" in own.heard


def test_a_process_id_that_was_noted_and_is_another_program_s_now_is_not_trusted(server: Server, foreign) -> None:
    other = foreign(200, "Healthy")
    jvm.note(server.folder, psutil.Process())
    note = server.folder / "logs" / "torchserve.pid"
    note.write_text(f"{os.getpid()} {jvm.started(psutil.Process().parent())}\n")
    assert not server.alive()
    assert other.heard == b""
    note.write_text("no process id at all")
    assert not server.alive()


def test_a_torchserve_that_was_started_by_hand_is_known_by_its_folder(server: Server, hold: Holder) -> None:
    listen = f"one = socket.create_server(('127.0.0.1', {port_of(server)}))"
    started: subprocess.Popen[str] = hold(listen, jvm.MAIN_CLASS, cwd=server.folder)
    assert [process.pid for process in jvm.of_folder(server.folder)] == [started.pid]
    server.require_ours(f"{server.inference}/ping")
    with pytest.raises(ServerDown, match="nothing answers at"):
        server.require_ours(f"{server.management}/workflows")


def test_a_torchserve_that_listens_elsewhere_does_not_vouch_for_the_port(server: Server, hold: Holder, foreign) -> None:
    other = foreign(200, "Healthy")
    hold(f"one = socket.create_server(('127.0.0.2', {port_of(server)}))", jvm.MAIN_CLASS, cwd=server.folder)
    assert not server.alive()
    assert other.heard == b""


@pytest.mark.parametrize("name", ["inference_address", "management_address", "metrics_address", "model_store"])
def test_a_setting_that_is_missing_is_named_with_its_file(folder: Path, name: str) -> None:
    for value in (None, ""):
        with pytest.raises(ServerError, match=rf"{folder}/config\.properties has no {name}"):
            change(folder, **{name: value})


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1",
        "127.0.0.1:8080",
        "http://127.0.0.1:",
        "http://127.0.0.1:0",
        "http://127.0.0.1:65535",
        "http://127.0.0.1:70000",
        "http://127.0.0.1:http",
        "http://127.0.0.1:8080/",
        "http://[::1]:8080",
        "http://::1:8080",
        "http://:8080",
        "http://a..b:8080",
        f"http://{'x' * 70}:8080",
        "http://my host:8080",
        "ftp://127.0.0.1:8080",
        "unix:/tmp/torchserve.sock",
        "http://127.0.0.1:8080 # the usual",
        "http://127.0.0.1:٨٠٨٠",
    ],
)
@pytest.mark.parametrize("name", ["inference_address", "management_address", "metrics_address"])
def test_an_address_that_torchserve_does_not_take_is_named(folder: Path, name: str, address: str) -> None:
    usual = dict.fromkeys(("inference_address", "management_address", "metrics_address"), "http://127.0.0.1:8080")
    lines = {**usual, "model_store": "store", name: address}
    text = "".join(f"{key}={value}\n" for key, value in lines.items())
    (folder / "config.properties").write_text(text)
    with pytest.raises(ServerError, match=rf"config\.properties: {name}=.* is no address as TorchServe reads it"):
        Server.of_folder(folder)


def test_a_configuration_in_any_bytes_is_read(folder: Path) -> None:
    path = folder / "config.properties"
    path.write_bytes(b"# f\xfcr die R\xf6ntgenabteilung\n  # also\n! and\nno setting\n" + path.read_bytes())
    assert Server.of_folder(folder).store == folder / "model_store" / "live"


def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"config\.properties is not there"):
        Server.of_folder(tmp_path)
    (tmp_path / "config.properties").mkdir()
    with pytest.raises(ServerError, match=r"config\.properties cannot be read: Is a directory"):
        Server.of_folder(tmp_path)
