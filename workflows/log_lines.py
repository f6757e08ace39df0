"""The log of a process that stays up: a line of JSON per event on stdout. It never holds pixels, names of files, or
what a client wrote: no headers, no URLs, no exception's message.
"""

import logging
import os
import sys
import traceback
from typing import Any

from structlog.contextvars import merge_contextvars
from structlog.processors import EventRenamer, JSONRenderer, TimeStamper
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.typing import EventDict


def add_level_and_fault(_: Any, level: str, line: EventDict) -> EventDict:
    """Of an exception its type and where it was raised, and the system's own words, but no others."""
    line["level"] = level.upper()
    kind, fault, trace = line.pop("exc_info", None) or (None, None, None)
    if kind is not None:
        reason = f" {fault.strerror}" if isinstance(fault, OSError) else ""
        frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
        line["fault"] = " < ".join([f"{kind.__name__}{reason}", *reversed(frames)])
    return line


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


LINE = {
    "()": ProcessorFormatter,
    "foreign_pre_chain": [merge_contextvars, EventRenamer("message"), ExtraAdder(), add_level_and_fault],
    "processors": [ProcessorFormatter.remove_processors_meta, TimeStamper("iso", key="time"), JSONRenderer()],
}
"""Of the standard library's records: TorchServe's side and uvicorn log with it, too."""


def logging_of(**levels: str) -> dict[str, Any]:
    """For ``logging.config.dictConfig``: such lines of these loggers from these levels up, of others from WARNING."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": LINE},
        "handlers": {"stdout": {"()": Output, "formatter": "line"}},
        "root": {"level": "WARNING", "handlers": ["stdout"]},
        "loggers": {name: {"level": level} for name, level in levels.items()},
    }
