"""Films through the gateway, over whatever happens to the service meanwhile.

``http.client`` in threads, because the client shares its cores with the server: 0.3 ms of CPU time for a film of 400
kB, where urllib3 takes 0.5 ms and httpx 1.2 ms, or 2.3 ms as asyncio's.
"""

import json
import random
import threading
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

from pydantic import ValidationError

from handlers.report import Refusal, Report
from workflows.server import ServerDown, ServerError, WrongToken

REQUEST_LIMIT = 120.0
"""Seconds for one request, beyond the gateway's own limits together."""
SILENCE_LIMIT = 3600.0
"""Seconds without any film answered, after which nothing is waited for any longer."""
TRIES = 8
"""Of a film that the gateway lets in and gives no report on, while it reads others: it is the film, then."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0
"""Seconds before a film is sent again, where the answer has no Retry-After; doubled each time."""

WAITING = frozenset({"QueueFull", "Busy", "NotReady"})
"""Problems that say nothing of the film."""
NO_REPORT = frozenset({"NotServed", "InternalError", "DeadlinePassed", "UploadTooSlow", "Unreachable"})
"""Problems that may be the film's, where they last; ``Unreachable`` is ours: no answer came back at all."""
URN = "urn:cxr:"


class Stopped(Exception):
    """The run is over; nobody waits for this film."""


@dataclass(frozen=True)
class NotNow:
    """No answer yet. ``after``: seconds until the film may come again, where the service said so."""

    type: str
    message: str
    after: float | None = None


class Gateway:
    """What all connections to one gateway know of it.

    Args:
        address: ``http://host:port``; a path before ``/v1`` is kept.
        key: an API key.
        silence: seconds; ``SILENCE_LIMIT``.

    Attributes:
        answered: films with a report or a refusal.
        trouble: why films wait now; empty where they do not.
        stopped: set once the run is over.
    """

    def __init__(self, address: str, key: str, silence: float = SILENCE_LIMIT) -> None:
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError as fault:
            raise ServerError(f"{address!r} is no address: {fault}") from fault
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ServerError(f"{address!r} is no address: give one like http://127.0.0.1:8000")
        self.address = address
        self.path = f"{parts.path.rstrip('/')}/v1/reports"
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/octet-stream"}
        self.answered, self.trouble, self.stopped = 0, "", threading.Event()
        self._host, self._port, self._tls = parts.hostname, port, parts.scheme == "https"
        self._silence, self._heard, self._lock = silence, time.monotonic(), threading.Lock()

    def connection(self) -> HTTPConnection:
        """A new one, not open yet. It knows no proxy: films that go to loopback must not pass through one."""
        kind = HTTPSConnection if self._tls else HTTPConnection
        return kind(self._host, self._port, timeout=REQUEST_LIMIT)

    def require_up(self) -> None:
        """Raises ServerDown where nothing listens: at the start of a run this is a mistake, not a restart."""
        connection = self.connection()
        try:
            connection.connect()
        except OSError as fault:
            raise ServerDown(f"nothing answers at {self.address} ({fault}); start the service: 'make serve'") from fault
        finally:
            connection.close()

    def hear(self) -> None:
        """A film was answered."""
        with self._lock:
            self.answered += 1
        self._heard, self.trouble = time.monotonic(), ""

    def wait(self, cause: NotNow, seconds: float) -> None:
        """Raises Stopped, or ServerDown once the silence has lasted too long."""
        self.trouble = f"{cause.type}: {cause.message}"
        if time.monotonic() - self._heard > self._silence:
            raise ServerDown(f"{self.address} has answered no film for {self._silence:g} s ({self.trouble})")
        if self.stopped.wait(seconds):
            raise Stopped


class Line:
    """One connection to a gateway; it is opened anew after each trouble. Not to be shared by threads."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._connection = gateway.connection()

    def read(self, film: bytes) -> Report | Refusal:
        """A film's report, or why there is none; its ``type`` is in ``NO_REPORT`` where the film was given up.

        A service that is full, restarts or is down is waited for. A film is given up after ``TRIES`` that the gateway
        let in; one whose connection breaks, only while other films are answered.

        Raises:
            ServerDown: no film was answered for too long.
            ServerError: what answers is not the gateway.
            Stopped: the run is over.
            WrongToken: the key is refused.
        """
        tries, others, pause = 0, self._gateway.answered, FIRST_WAIT
        while isinstance(answer := self._send(film), NotNow):
            self._connection.close()
            if answer.type not in WAITING and (answer.type != "Unreachable" or self._gateway.answered > others):
                tries += 1
            if tries == TRIES:
                return Refusal.because(503, answer.type, answer.message)
            others = self._gateway.answered
            least = pause if answer.after is None else answer.after
            self._gateway.wait(answer, least * random.uniform(1.0, 1.5))  # apart, so as not to come back all at once
            pause = min(2 * pause, LONGEST_WAIT)
        self._gateway.hear()
        return answer

    def _send(self, film: bytes) -> Report | Refusal | NotNow:
        try:
            cut = False
            try:
                self._connection.request("POST", self._gateway.path, film, self._gateway.headers)
            except (BrokenPipeError, ConnectionResetError):  # it may have said why before it hung up
                cut = True
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, HTTPException) as fault:
            return NotNow("Unreachable", str(fault) or type(fault).__name__)
        if cut:
            self._connection.close()
        return self._understand(response, body)

    def _understand(self, response: HTTPResponse, body: bytes) -> Report | Refusal | NotNow:
        status, address = response.status, self._gateway.address
        if status == 200:
            try:
                return Report.model_validate_json(body)
            except ValidationError:
                raise ServerError(f"{address} answers, but with no report: {_shown(body)}") from None
        if status in (401, 403):
            raise WrongToken(f"{address} refuses the key: name one that is in force with --key-file, or in CXR_KEY")
        problem = _problem(body)
        if status in (400, 413, 415, 422) and problem:
            return Refusal.because(status, *problem)
        if status in (408, 429) or status >= 500:
            kind, message = problem or ("Unreachable", f"HTTP {status}")
            return NotNow(kind, message, _seconds(response.getheader("Retry-After")))
        raise ServerError(f"{address} answers HTTP {status}, which is not the gateway's way: {_shown(body)}")


def _problem(body: bytes) -> tuple[str, str] | None:
    """Type and detail of a problem document (RFC 9457) of the gateway's."""
    try:
        document = json.loads(body)
        kind, detail = document["type"], document["detail"]
    except (ValueError, KeyError, TypeError):
        return None
    return (kind.removeprefix(URN), str(detail)) if isinstance(kind, str) and kind.startswith(URN) else None


def _seconds(retry_after: str | None) -> float | None:
    """Of Retry-After (RFC 9110, 10.2.3) in seconds; a date, which the gateway never says, counts as nothing said."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else None


def _shown(body: bytes) -> str:
    return body[:200].decode(errors="replace")
