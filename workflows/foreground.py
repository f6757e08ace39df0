"""TorchServe as a child that ends with its parent, whatever ends that, and leaves no process and no file behind.

    python -m workflows.foreground FOLDER PARENT      # started by workflows.torchserve, with PARENT's process id

``torchserve --start --foreground`` alone leaves its workers when the JVM is killed, and always the archives that the
workers have unpacked.
"""

import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
from ts.model_server import start as start_torchserve  # type: ignore[import-untyped,unused-ignore]

from workflows.files.atomic import scratch_folder

END_LIMIT = 20.0
"""Seconds for the JVM to end its workers and itself."""
PARENT_LOOK = 0.5
"""Seconds between two looks at who the parent is. The kernel's own signal (PR_SET_PDEATHSIG) comes when the thread
ends that started this process, and on Linux only."""
LONGEST_SOCKET = "pymp-12345678/listener-12345678"
"""In the temporary folder: Python's multiprocessing in a worker; the worker's own is ``.ts.sock.9000``."""
SOCKET_PATH = 103
"""Bytes of a Unix socket's name, at most, on macOS; Linux allows four more."""
PR_SET_CHILD_SUBREAPER = 36
"""Of Linux's <sys/prctl.h>: the workers of a JVM that was killed become this process's children."""


def main() -> None:
    folder, parent = sys.argv[1:]
    signal.signal(signal.SIGTERM, _exit_once)
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with scratch_folder(Path(tempfile.gettempdir()) / "cxr") as temporary:  # short: see SOCKET_PATH
        if len(os.fsencode(temporary / LONGEST_SOCKET)) > SOCKET_PATH:
            sys.exit(f"{temporary} is too long for the workers' sockets: name a shorter temporary folder in TMPDIR")
        tempfile.tempdir = os.environ["TMPDIR"] = os.environ["TEMP"] = str(temporary)
        os.chdir(folder)
        sys.argv = ["torchserve", "--start", "--foreground", "--ncs", "--ts-config", "config.properties"]
        try:
            start_torchserve()
        finally:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            finally:  # where SIGTERM has come just before, too
                _end_children()


def _exit_once(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_LOOK)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _end_children() -> None:
    """The JVM, which ends its workers; or, where it has gone already, the workers."""
    this = psutil.Process()
    children = this.children()
    for process in children:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(children, timeout=END_LIMIT)
    while left := this.children(recursive=True):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left)


if __name__ == "__main__":
    main()
