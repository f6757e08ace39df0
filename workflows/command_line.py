"""How every command ends: the one place where a fault becomes an ``error: ...`` line and an exit code."""

import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from workflows.files.atomic import says_full

INTERRUPTED = 130
"""Ctrl-C, as shells count it."""


class Fault(Exception):
    """Something that the user can mend: the message says what is wrong, where, and what to do.

    Attributes:
        exit_code: of a command that it ends.
    """

    exit_code = 1


def run(main: Callable[[], int | None]) -> NoReturn:
    """Ends the process with what ``main`` returns, or with its fault on standard error and that fault's exit code."""
    threading.excepthook = _in_thread
    code = ended(main)
    _close_output()
    sys.exit(code)


def ended(main: Callable[[], int | None]) -> int:
    """The exit code of ``main``; a fault of the user's or the machine's is printed, any other exception is raised."""
    try:
        code = main() or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # who reads our output has gone: python -m ... | head
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as fault:
        if not isinstance(fault, (Fault, OSError)) and not says_full(fault):
            raise
        print(f"error: {_said(fault)}", file=sys.stderr)
        return fault.exit_code if isinstance(fault, Fault) else 1


def _said(fault: Exception) -> str:
    if isinstance(fault, OSError) and fault.strerror:
        return f"{fault.filename}: {fault.strerror}" if fault.filename else fault.strerror
    return str(fault)


def _in_thread(fault: threading.ExceptHookArgs) -> None:
    """A library's thread that finds the disk full (TensorBoard's) hands its exception to the main thread as well."""
    if fault.exc_value is None or not says_full(fault.exc_value):
        threading.__excepthook__(fault)


def _close_output() -> None:
    """Where it cannot be written any more, the interpreter would try again at its end, and print a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
