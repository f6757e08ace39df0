"""Real gateways in processes of their own, in front of a stand-in that speaks TorchServe's way."""

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn
from structlog.stdlib import ProcessorFormatter

from benchmarks.arms.reserved_ports import free_ports
from gateway.keys import KEYS_FILE, make
from tests.gateway.stand_in import PATIENCE, TOKEN, StandIn
from workflows import jvm
from workflows.log_lines import LINE

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def stand_in_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StandIn, Path]]:
    """The stand-in, and the folder of the TorchServe that it stands in for."""
    app = StandIn()
    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    folder = tmp_path_factory.mktemp("torchserve")
    addresses = "".join(f"{api}_address=http://127.0.0.1:{port}\n" for api in ("inference", "management", "metrics"))
    (folder / "config.properties").write_text(f"{addresses}model_store=model_store\n")
    (folder / "key_file.json").write_text(json.dumps({kind: {"key": TOKEN} for kind in ("inference", "management")}))
    jvm.note(folder, psutil.Process())
    yield app, folder
    app.reset()
    server.should_exit = True
    thread.join()


@pytest.fixture
def torchserve(stand_in_server: tuple[StandIn, Path]) -> StandIn:
    """The stand-in, with nothing in it."""
    app, _ = stand_in_server
    app.reset()
    return app


class Gateway:
    """A gateway in a process of its own.

    Attributes:
        url: where it listens.
        key: that it takes.
        records: its file or database of what it notes.
        log: its lines so far.
    """

    def __init__(self, server: Path, folder: Path, ready: bool = True, **settings: object) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        self.key = make(self.secrets / KEYS_FILE, "tests")
        told = {"port": self.port, "server": server, "secrets": self.secrets, "restart_after": 600}
        told |= {"records": folder / "records.sqlite", **settings}
        self.records = str(told["records"])
        self._arguments = [word for name, value in told.items() for word in (f"--{name}", str(value))]
        self._log = folder / "gateway.log"
        self.start()
        self.until(lambda: self.get("/health/ready" if ready else "/health/live").status_code == 200)

    def start(self) -> None:
        """Again, where it has ended: the same one."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", *self._arguments],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if not name.startswith("CXR_")},
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    @property
    def log_text(self) -> str:
        return self._log.read_text()

    def line(self, **fields: object) -> dict[str, Any]:
        """The last line of a request with these fields; it is written just after the answer has gone."""
        found: list[dict[str, Any]] = []
        wanted = {"event": "request", **fields}

        def is_there() -> bool:
            lines = self.log
            found[:] = [one for one in lines if wanted.items() <= one.items()][-1:]
            return bool(found)

        self.until(is_there)
        return found[0]

    def read(self, film: bytes | Iterator[bytes], **request: Any) -> httpx.Response:
        """``POST /v1/reports`` with the key."""
        headers = {"Authorization": f"Bearer {self.key}", **request.pop("headers", {})}
        return self.call("POST", "/v1/reports", content=film, headers=headers, **request)

    def get(self, path: str) -> httpx.Response:
        return self.call("GET", path)

    def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        return httpx.request(method, f"{self.url}{path}", timeout=PATIENCE, verify=False, **request)

    def open(self, sent: bytes, *headers: str, path: str = "/v1/reports", raw: bytes | None = None) -> socket.socket:
        """A connection on which the head of a film's request has been sent, key included, and ``sent`` of its body; or
        ``raw`` and nothing else."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        if raw is not None:
            connection.sendall(raw)
            return connection
        own = (f"POST {path} HTTP/1.1", "Host: here", f"Authorization: Bearer {self.key}")
        lines = [*own, *(headers or (f"Content-Length: {len(sent)}",)), "", ""]
        connection.sendall("\r\n".join(lines).encode() + sent)
        return connection

    def state(self) -> dict[str, object]:
        return self.get("/health/ready").json()

    def metric(self, line: str) -> float:
        """The sum of the metric's series with these labels among theirs, as Prometheus selects them; 0 without one."""
        name, _, labels = line.rstrip("}").partition("{")
        wanted, total = set(filter(None, labels.split(","))), 0.0
        for series, _, value in (one.rpartition(" ") for one in self.get("/metrics").text.splitlines()):
            its_name, _, its_labels = series.rstrip("}").partition("{")
            if its_name == name and wanted <= set(its_labels.split(",")):
                total += float(value)
        return total

    def until(self, condition: Callable[[], bool], within: float = PATIENCE) -> None:
        """Asks the gateway again and again, for so many seconds at most."""
        limit = time.monotonic() + within
        while time.monotonic() < limit:
            assert self.process.poll() is None, self._log.read_text()
            try:
                if condition():
                    return
            except httpx.ConnectError:
                continue
        raise AssertionError(f"did not happen within {within:g} s: {self.state()}")

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


class Log:
    """What the gateway's code logs in this process."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self.handler = logging.StreamHandler(self._stream)
        self.handler.setFormatter(ProcessorFormatter(**{name: LINE[name] for name in LINE if name != "()"}))

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def line(self, **fields: object) -> dict[str, Any]:
        """The last with these fields."""
        return [one for one in self.lines if fields.items() <= one.items()][-1]


@pytest.fixture
def log() -> Iterator[Log]:
    log, logger = Log(), logging.getLogger("gateway")
    level = logger.level
    logger.addHandler(log.handler)
    logger.setLevel(logging.INFO)
    yield log
    logger.setLevel(level)
    logger.removeHandler(log.handler)


StartGateway = Callable[..., Gateway]


@pytest.fixture(scope="session")
def start_gateway(stand_in_server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartGateway]:
    """Starts gateways, and ends those that still run."""
    _, server = stand_in_server
    started: list[Gateway] = []

    def start(**settings: object) -> Gateway:
        folder = settings.pop("server", server)
        started.append(Gateway(Path(str(folder)), tmp_path_factory.mktemp("gateway"), **settings))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.fixture(scope="session")
def roomy(start_gateway: StartGateway) -> Gateway:
    """Room for every film of a test, and time."""
    return start_gateway(max_wait=PATIENCE)


@pytest.fixture(scope="session", params=["SQLite", "PostgreSQL"])
def noting(request: pytest.FixtureRequest, start_gateway: StartGateway) -> Gateway:
    """``roomy``, or one like it whose records are in a PostgreSQL."""
    if request.param == "SQLite":
        return request.getfixturevalue("roomy")
    return start_gateway(max_wait=PATIENCE, records=request.getfixturevalue("postgresql").new_database())


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def records_place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where nothing is noted yet: a file's path, and a database's URL."""
    if request.param == "SQLite":
        return str(tmp_path / "records.sqlite")
    return request.getfixturevalue("postgresql").new_database()


@pytest.fixture(scope="session")
def narrow(start_gateway: StartGateway) -> Gateway:
    """Two films in flight, two that may wait beside them, and all the time that a test takes."""
    return start_gateway(max_in_flight=2, max_waiting=2, max_wait=PATIENCE, upload_limit=PATIENCE, deadline=PATIENCE)


@pytest.fixture(scope="session")
def hasty(start_gateway: StartGateway) -> Gateway:
    """One film in flight, little time to wait and to send a film, and all the time that a reading takes."""
    return start_gateway(max_in_flight=1, max_waiting=3, max_wait=0.3, upload_limit=0.5, deadline=PATIENCE)


@pytest.fixture(scope="session")
def small(start_gateway: StartGateway) -> Gateway:
    """Bodies up to 100,000 bytes."""
    return start_gateway(max_bytes=100_000)


def answer_on(connection: socket.socket) -> tuple[int, bytes]:
    """The status and the body of the one answer that comes before the connection is closed or it is all there."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        assert piece, f"closed after {received!r}"
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return int(lines[0].split(" ")[1]), body
