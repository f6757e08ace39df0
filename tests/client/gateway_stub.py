"""A small HTTP server in threads that answers as the gateway does, and can be held, stopped and started again."""

import json
import socket
import ssl
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from handlers.findings import FINDINGS
from handlers.report import ModelVersions, Report, Score

KEY = "the-key"
PATIENCE = 60.0
"""Seconds until a test that waits for an event gives up."""


def report_of(probability: float) -> Report:
    """Routed from 0.5 up; each finding's probability is another fraction of stage 1's."""
    finding = Score.at(probability, 0.5)
    shares = {name: probability * (number + 1) / 20 for number, name in enumerate(FINDINGS)}
    diseases = {name: Score.at(share if finding.present else 0.0, 0.5) for name, share in shares.items()}
    models = ModelVersions(binary="1.0.0+synthetic", disease="1.0.1")
    return Report(finding=finding, routed=finding.present, diseases=diseases, models=models)


class Say(NamedTuple):
    """One answer: a problem, the connection cut where ``status`` is 0, half of a report where it is 200."""

    status: int
    type: str = ""
    retry_after: str | None = None
    location: str | None = None


class GatewayStub:
    """A film ``0.7`` gets a report of that probability, ``refuse 400 Why`` that refusal; ``script`` comes first.

    Args:
        tls: the certificate of a service behind HTTPS.

    Attributes:
        script: by film, what is said to it before that, one a request.
        posts: how often each film came.
        hold_after: films that are answered; those that come later are held until ``release``.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.script: dict[bytes, list[Say]] = {}
        self.posts: Counter[bytes] = Counter()
        self.hold_after = 10**9
        self.answered = self.held = 0
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    def start(self) -> None:
        """At the same port as before."""
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                stub._connections.add(self.connection)

            def do_POST(self) -> None:
                stub._post(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:  # a connection that the test has cut
                pass

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        if self._tls:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Listens no more, and cuts every connection."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        for one in list(self._connections):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self._connections.clear()

    def wait_until(self, answered: int, held: int) -> None:
        with self._changed:
            done = self._changed.wait_for(lambda: self.answered >= answered and self.held >= held, PATIENCE)
        assert done, f"{self.answered} answered, {self.held} held"

    def release(self) -> None:
        with self._changed:
            self.hold_after = 10**9
            self._changed.notify_all()

    def _post(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers["Content-Length"])
        if length > 1_000_000:  # refused unread, as the gateway does
            request.close_connection = True
            self._problem(request, Say(413, "BodyTooLarge"))
            return
        film = request.rfile.read(length)
        if len(film) < length:  # the client is gone
            request.close_connection = True
            return
        if request.path != "/v1/reports" or request.headers["Authorization"] != f"Bearer {KEY}":
            self._problem(request, Say(401, "Unauthorized"))
            return
        with self._changed:
            self.posts[film] += 1
            say = self.script[film].pop(0) if self.script.get(film) else None
            if say is None:
                self.held += self.answered >= self.hold_after
                self._changed.notify_all()
                self._changed.wait_for(lambda: self.answered < self.hold_after)
                self.answered += 1
                self._changed.notify_all()
        if say is None and film.startswith(b"refuse"):
            _, status, kind = film.decode().split()
            say = Say(int(status), kind)
        if say is None:
            self._send(request, 200, report_of(float(film)).model_dump_json(), {})
        elif say.status == 200:
            self._send(request, 200, report_of(0.7).model_dump_json(), {}, half=True)
        elif say.status:
            self._problem(request, say)
        else:
            request.close_connection = True

    def _problem(self, request: BaseHTTPRequestHandler, say: Say) -> None:
        document = {"type": f"urn:cxr:{say.type}", "title": "", "status": say.status, "detail": "why", "instance": "1"}
        headers = {"Retry-After": say.retry_after, "Location": say.location}
        told = {name: value for name, value in headers.items() if value is not None}
        self._send(request, say.status, json.dumps(document), told)

    def _send(
        self, request: BaseHTTPRequestHandler, status: int, body: str, headers: dict[str, str], half: bool = False
    ) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body.encode()[: len(body) // 2 if half else None])
        request.close_connection |= half
