"""What every command does with a fault of the machine (a full disk, a file that it may not read): a line on stderr."""

import os
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from workflows.files.atomic import says_full


def run(main: Callable[[], int | None]) -> NoReturn:
    """Ends the process with what ``main`` returns, or with 1 and ``error: ...`` on standard error."""
    threading.excepthook = _in_thread
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # who reads our output has gone: python -m ... | head
        code = 1
    except Exception as fault:
        if not isinstance(fault, OSError) and not says_full(fault):
            raise
        print(f"error: {_said(fault)}", file=sys.stderr)
        code = 1
    _close_output()
    sys.exit(code)


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
