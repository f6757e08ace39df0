"""A server that speaks as TorchServe does, in this process, and the gateway's way to it."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import CollectorRegistry, Counter

from gateway.upstream import Upstream
from tests.gateway.stand_in import report_of
from workflows import jvm
from workflows.server import KEY_FILE, Server

REFUSED_TOKEN = json.dumps({"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed."})


class Cut(Enum):
    """Where a connection is closed."""

    UNREAD = auto()
    """A request has come, and nothing of it was read."""
    HEAD = auto()
    """The head was read, the body was not."""
    FILM = auto()
    """The film was taken."""
    ANSWER = auto()
    """Half of the answer has gone."""


class Stub(ThreadingHTTPServer):
    """Speaks as TorchServe does.

    Attributes:
        films: bodies that it took, in order.
        headers: of each.
        renewals: how often a new token was asked for.
        answer: what it does with a film: a status and a body, or None to hang up.
        cuts: what it does to the next requests instead, one each; None answers.
        connections: how many clients have made.
    """

    daemon_threads = True
    request_queue_size = 1024  # TorchServe's; from a queue of 5 many clients at once are reset before they are heard

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.films, self.headers, self.renewals = folder, [], [], 0
        self.cuts: list[Cut | None] = []
        self.connections = 0
        self.answer: Callable[[bytes], tuple[int, str] | None] = lambda _: (200, report_of(0.75).model_dump_json())
        self.lock = threading.Lock()
        self.inside = self.most_bytes = 0
        self.set_token("token-0", timedelta(hours=1))

    def handle_error(self, *_: object) -> None:
        """A client that hung up before its answer."""

    def set_token(self, token: str, valid: timedelta) -> None:
        self.token = token
        expires = (datetime.now(UTC) + valid).isoformat().replace("+00:00", "123Z")
        keys = {"inference": {"key": token, "expiration time": expires}, "API": {"key": "api"}}
        (self.folder / KEY_FILE).write_text(json.dumps(keys))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Stub

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1
        self.cut: Cut | None = None

    def handle_one_request(self) -> None:
        if self.connection.recv(1, socket.MSG_PEEK):  # else the client has closed it
            with self.server.lock:
                self.cut = self.server.cuts.pop(0) if self.server.cuts else None
        if self.cut is Cut.UNREAD:
            self.close_connection = True
        else:
            super().handle_one_request()

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        if self.cut is Cut.HEAD:
            self.close_connection = True
            return False
        return parsed

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        assert self.path == "/token?type=inference"
        assert self.headers["Authorization"] == "Bearer api"
        with self.server.lock:
            self.server.renewals += 1
            self.server.set_token(f"token-{self.server.renewals}", timedelta(hours=1))
        self._say(200, "")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            return self._say(400, REFUSED_TOKEN)
        with self.server.lock:
            self.server.films.append(body)
            self.server.headers.append(dict(self.headers))
            self.server.inside += len(body)
            self.server.most_bytes = max(self.server.most_bytes, self.server.inside)
        answer = self.server.answer(body) if self.cut is not Cut.FILM else None
        with self.server.lock:
            self.server.inside -= len(body)
        if answer is None:
            self.close_connection = True
            return None
        return self._say(*answer)

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        if status >= 400:
            self.send_header("Connection", "close")  # as TorchServe does
        self.end_headers()
        if self.cut is Cut.ANSWER:
            self.close_connection = True
            text = text[: len(text) // 2]
        self.wfile.write(text.encode())


@contextmanager
def started(folder: Path) -> Iterator[Stub]:
    """It listens until the end; its key file lies in the folder."""
    one = Stub(folder)
    jvm.note(folder, psutil.Process())
    threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


def server_of(stub: Stub) -> Server:
    address = f"http://127.0.0.1:{stub.server_address[1]}"
    return Server(stub.folder, address, address, address, stub.folder)


def lost() -> Counter:
    """A counter of an upstream's own."""
    return Counter("answers_lost", "Answers that never came", registry=CollectorRegistry())


def through(stub: Stub, work: Callable[[Upstream], Coroutine[Any, Any, Any]]) -> Any:
    async def run() -> Any:
        upstream = Upstream(server_of(stub), 64, lost())
        try:
            return await work(upstream)
        finally:
            await upstream.aclose()

    return asyncio.run(run())
