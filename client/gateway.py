"""The one client of the gateway: films out, reports back, over whatever happens to the service meanwhile.

    gateway = Gateway("http://127.0.0.1:8000", key)
    answer = gateway.read(Path("film.png").read_bytes())

requests sends, and urllib3's ``Retry`` says how long to wait: as long as ``Retry-After`` asks, else twice as long each
time. Whether a film is sent again is decided here and not by a ``Retry`` inside the session: it hangs on the problem's
type, which is in the answer's body, and on what becomes of other films.
"""

import argparse
import json
import os
import random
import re
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import requests
from pydantic import ValidationError
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InvalidHeader, LocationParseError
from urllib3.util import Retry, parse_url

from handlers.report import Refusal, Report
from workflows.files.text_files import read_text
from workflows.server import ServerDown, ServerError, WrongToken

KEY_FILE = Path("secrets/first.key")
KEY_VARIABLE, PORT_VARIABLE = "CXR_KEY", "CXR_PORT"
KEY = re.compile(r"[!-~]+")
"""What an HTTP header can carry."""

CONNECTIONS = 32
"""Films under way: two full batches of a node."""
REQUEST_LIMIT = 120.0
"""Seconds for one request, beyond the gateway's own limits together."""
SILENCE_LIMIT = 3600.0
"""Seconds without any film answered, after which nothing is waited for any longer."""
TRIES = 8
"""Of a film that the gateway lets in and gives no report on, while it reads others: it is the film, then."""
# The increment is for the first wait: by itself ``Retry`` tries a second time at once.
BACK_OFF = Retry(total=None, backoff_factor=0.25, backoff_max=10).increment()
"""Where the answer has no Retry-After: 0.5 s, 1 s, 2 s and so on."""

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
    """A gateway, for any number of threads at once.

    Args:
        address: ``http://host:port``; a path before ``/v1`` is kept.
        key: an API key.
        connections: that are kept open.
        silence: seconds without any answer after which a film is no longer waited for.

    Attributes:
        answered: films with a report or a refusal.
        trouble: why films wait now; empty where they do not.
        stopped: set once the run is over.

    Raises:
        ServerError: ``address`` is none.
        WrongToken: ``key`` cannot be one.
    """

    def __init__(self, address: str, key: str, connections: int = CONNECTIONS, silence: float = SILENCE_LIMIT) -> None:
        try:
            url = parse_url(address)
        except LocationParseError as fault:
            raise ServerError(f"{address!r} is no address: {fault}") from fault
        if url.scheme not in ("http", "https") or not url.host:
            raise ServerError(f"{address!r} is no address: give one like http://127.0.0.1:8000")
        if not KEY.fullmatch(key):
            raise WrongToken("the key is empty, or holds blanks or letters that no key has: copy it anew")
        self.address = url._replace(auth=None, query=None, fragment=None).url.rstrip("/")
        self.connections = connections
        self.answered, self.trouble, self.stopped = 0, "", threading.Event()
        self._silence, self._heard, self._lock = silence, time.monotonic(), threading.Lock()
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy named in the environment must not see films
        authorities = ssl.get_default_verify_paths()  # this machine's, with a hospital's own; requests has its own list
        self._session.verify = authorities.cafile or authorities.capath or True
        self._session.headers.update({"Authorization": f"Bearer {key}", "Content-Type": "application/octet-stream"})
        self._session.mount(f"{url.scheme}://", HTTPAdapter(pool_maxsize=connections))

    @classmethod
    def chosen(cls, arguments: argparse.Namespace, connections: int, silence: float) -> "Gateway":
        """The one that a command line names with ``add_arguments``, or the environment.

        Raises:
            OSError: there is no key.
        """
        path: Path = arguments.key_file or KEY_FILE
        key = "" if arguments.key_file else os.environ.get(KEY_VARIABLE, "")
        if not key and not path.exists():
            said = f"no key: {path} is not there ('make serve' makes a first one), nor is ${KEY_VARIABLE} set"
            raise FileNotFoundError(said)
        return cls(arguments.address, (key or read_text(path)).strip(), connections, silence)

    def require_up(self) -> None:
        """Raises ServerDown where nothing answers: at the start of a run this is a mistake, not a restart."""
        try:
            self._session.get(f"{self.address}/health/live", timeout=REQUEST_LIMIT, allow_redirects=False)
        except requests.RequestException as fault:
            said = f"nothing answers at {self.address} ({_cause(fault)}); start the service: 'make serve'"
            raise ServerDown(said) from fault

    def read(self, film: bytes, heatmaps: str = "") -> Report | Refusal:
        """A film's report, or why there is none; its ``type`` is in ``NO_REPORT`` where the film was given up.

        A service that is full, restarts or is down is waited for. A film is given up after ``TRIES`` that the gateway
        let in; one whose connection breaks, only while other films are answered.

        Args:
            heatmaps: those that come with the report: ``all-present``, or findings with commas between them.

        Raises:
            ServerDown: no film was answered for too long.
            ServerError: what answers is not the gateway.
            Stopped: the run is over.
            WrongToken: the key is refused.
        """
        tries, others, back_off = 0, self.answered, BACK_OFF
        while isinstance(answer := self._send(film, heatmaps), NotNow):
            if answer.type not in WAITING and (answer.type != "Unreachable" or self.answered > others):
                tries += 1
            if tries == TRIES:
                return Refusal.because(503, answer.type, answer.message)
            others, back_off = self.answered, back_off.increment()
            least = back_off.get_backoff_time() if answer.after is None else answer.after
            self.wait(answer, least * random.uniform(1.0, 1.5))  # apart, so as not to come back all at once
        self.hear()
        return answer

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
        if self.stopped.wait(min(seconds, self._silence)):
            raise Stopped

    def _send(self, film: bytes, heatmaps: str) -> Report | Refusal | NotNow:
        url, options = f"{self.address}/v1/reports", {"heatmaps": heatmaps} if heatmaps else {}
        try:
            # A redirection is not the gateway's: it would carry the film elsewhere.
            response = self._session.post(url, film, params=options, timeout=REQUEST_LIMIT, allow_redirects=False)
        except requests.RequestException as fault:
            return NotNow("Unreachable", _cause(fault))
        status, shown = response.status_code, response.content[:200].decode(errors="replace")
        if status == 200:
            try:
                return Report.model_validate_json(response.content)
            except ValidationError:
                raise ServerError(f"{self.address} answers, but with no report: {shown}") from None
        if status in (401, 403):
            raise WrongToken(
                f"{self.address} refuses the key: name one that is in force with --key-file, or in {KEY_VARIABLE}"
            )
        problem = _problem(response.content)
        if status in (400, 413, 415, 422) and problem:
            return Refusal.because(status, *problem)
        if status in (408, 429) or status >= 500:
            return NotNow(*(problem or ("Unreachable", f"HTTP {status}")), _retry_after(response))
        raise ServerError(f"{self.address} answers HTTP {status}, which is not the gateway's way: {shown}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which gateway, and the key: what every command that speaks to it takes."""
    parser.add_argument("--address", default=default_address(), metavar="URL", help="the gateway's (%(default)s)")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help=f"holds the key (${KEY_VARIABLE}, or {KEY_FILE})")


def default_address() -> str:
    """Where 'make serve' starts the gateway."""
    return f"http://127.0.0.1:{os.environ.get(PORT_VARIABLE) or 8000}"


def _problem(body: bytes) -> tuple[str, str] | None:
    """Type and detail of a problem document (RFC 9457) of the gateway's."""
    try:
        document = json.loads(body)
        kind, detail = document["type"], document["detail"]
    except (ValueError, KeyError, TypeError):
        return None
    return (kind.removeprefix(URN), str(detail)) if isinstance(kind, str) and kind.startswith(URN) else None


def _retry_after(response: requests.Response) -> float | None:
    """Seconds (RFC 9110, 10.2.3); what is neither a number nor a date counts as nothing said."""
    try:
        return BACK_OFF.get_retry_after(response.raw)
    except InvalidHeader:
        return None


def _cause(fault: BaseException) -> str:
    """What the operating system said; requests and urllib3 wrap it several times."""
    while behind := fault.__cause__ or fault.__context__:
        fault = behind
    return str(fault) or type(fault).__name__
