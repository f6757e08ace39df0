"""The log: one line of JSON per event on stdout. It never holds pixels, names of files, or what a client wrote, but for
the request's id: no headers, no URLs, no exception's message.
"""

import logging
import logging.config
import os
import re
import sys
import time
import traceback
from dataclasses import dataclass, field
from types import TracebackType
from uuid import uuid4

from pythonjsonlogger.json import JsonFormatter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.problems import Problem

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Of an ``X-Request-ID`` that is taken over; any other is replaced."""
QUIET = ("/health/live", "/health/ready", "/metrics")
"""Asked every few seconds; logged only where the answer is an error."""

logger = logging.getLogger(__name__)


class Line(JsonFormatter):
    """A record as one line; of an exception its type and where it was raised."""

    def __init__(self) -> None:
        names = {"levelname": "level", "exc_info": "fault"}
        super().__init__(["levelname", "message"], timestamp="time", rename_fields=names)

    def formatException(  # noqa: N802 (the standard library's name)
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        if ei[0] is None:
            return ""
        reason = f" {ei[1].strerror}" if isinstance(ei[1], OSError) else ""
        frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(ei[2])]
        return " < ".join([f"{ei[0].__name__}{reason}", *reversed(frames)])


class Output(logging.Handler):
    """Standard output, a line a write. While it takes no more, as a full disk does, lines are lost and requests go on;
    the rest of a line that was cut comes before the next one, so that every line is whole.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rest = b""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = f"{self.format(record)}\n".encode()
            number = os.write(sys.stdout.fileno(), self._rest + line)
        except Exception:  # whatever it is, a log must not end what it tells of
            return
        cut = len(self._rest)
        self._rest = self._rest[number:] if number < cut else line[number - cut :]


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": Line}},
    "handlers": {"stdout": {"()": Output, "formatter": "line"}},
    "root": {"level": "WARNING", "handlers": ["stdout"]},
    "loggers": {"gateway": {"level": "INFO"}, "uvicorn.error": {"level": "INFO"}},
}


@dataclass
class Record:
    """What the log says of one request.

    Attributes:
        id: the client's X-Request-ID, or a new one.
        key: whose key it came with.
        type: of the problem, where there was one.
        bytes: of the film.
        milliseconds: by stage.
    """

    id: str
    key: str | None = None
    status: int | None = None
    type: str | None = None
    routed: bool | None = None
    bytes: int | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)


class Journal:
    """ASGI middleware: gives every request its id, and writes its line."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = Record(_request_id(Headers(scope=scope)))
        scope.setdefault("state", {})["record"] = record

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = record.id
            await send(message)

        started = time.perf_counter()
        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            logger.exception("no answer to this request", extra={"event": "fault", "request_id": record.id})
            if record.status is not None:
                raise
            record.type = "InternalError"
            problem = Problem("InternalError", "a fault in the service; its log has more under this request's id")
            await problem.response(record.id)(scope, receive, send_with_id)
        finally:
            record.milliseconds["total"] = round((time.perf_counter() - started) * 1000.0, 1)
            _write(scope, record)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid4().hex


def _write(scope: Scope, record: Record) -> None:
    path = getattr(scope.get("route"), "path", None)
    level = logging.DEBUG if path in QUIET and record.status == 200 else logging.INFO
    fields = {
        "event": "request",
        "request_id": record.id,
        "key": record.key,
        "status": record.status,
        "type": record.type,
        "routed": record.routed,
        "bytes": record.bytes,
        "milliseconds": record.milliseconds,
    }
    message = f"{scope['method']} {path}" if path else "no such page"
    logger.log(level, message, extra={name: value for name, value in fields.items() if value is not None})
