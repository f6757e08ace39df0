"""A function called in processes of its own, which hostile bytes may crash or stall alone.

Both sides are in this file: ``ProcessPool``, and, run as a module, the process. They exchange bytes over a socket.
``multiprocessing`` has the socket but does not start the process: its ``spawn`` imports the owner's main module once
more (TorchServe's worker: 3 s and 650 MB; a script without a guard: no process at all), starts nothing in a data
loader's worker, and unpickles what the process sends, which hostile bytes may have taken over.
"""

import json
import pkgutil
import resource
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from handlers.refusals import RefusedFilm

MAX_MEMORY = 4 * 2**30
"""Bytes of address space; a decoder of 40 million pixels needs about a third."""
MAX_SECONDS = 60.0
"""Of a call, the start of a process included: a backstop for a process that waits or is stopped."""
ROOT = Path(__file__).parents[2]
"""The project's folder, or that of an unpacked archive."""


class ProcessPool:
    """One process for each call at a time; it is kept for the next call and ends with its owner.

    Args:
        function: ``package.module:name``, imported by the process alone. It takes bytes, and numbers and texts by
            keyword; returns bytes; may raise RefusedFilm. Anything else it raises ends its process.
        cpu_seconds: processor time for a call, of which a film takes no more on a busy machine.
    """

    def __init__(self, function: str, cpu_seconds: float) -> None:
        self._function, self._cpu_seconds = function, cpu_seconds
        self._idle = deque[tuple[subprocess.Popen[bytes], Connection]]()

    def call(self, data: bytes, **options: int | str) -> bytes:
        """What the function returns.

        Raises:
            RefusedFilm: what the function refuses; DecodeTimeout, or UnreadableImage where its process dies.
        """
        process, connection = self._take()
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(MAX_SECONDS, stop)
        timer.start()
        try:
            connection.send_bytes(json.dumps(options).encode())
            connection.send_bytes(data)
            refusal, answer = json.loads(connection.recv_bytes()), connection.recv_bytes()
        except (OSError, EOFError) as fault:
            process.kill()
            if process.wait() == -signal.SIGPROF or late.is_set():
                said = f"decoding takes over {self._cpu_seconds:g} s of processor time, or {MAX_SECONDS:g} s in all"
                raise RefusedFilm("DecodeTimeout", said) from fault
            raise RefusedFilm("UnreadableImage", "the film breaks its decoder") from fault
        finally:
            timer.cancel()
            timer.join()
        if not late.is_set():
            self._idle.append((process, connection))
        if refusal:
            raise RefusedFilm(*refusal)
        return answer

    def _take(self) -> tuple[subprocess.Popen[bytes], Connection]:
        with suppress(IndexError):  # none is idle
            while True:
                process, connection = self._idle.pop()
                if process.poll() is None:  # it lives, and is a child of this process, not of one that forked it
                    return process, connection
        ours, theirs = Pipe()
        command = [sys.executable, "-m", __name__, self._function, str(theirs.fileno()), str(self._cpu_seconds)]
        quiet = subprocess.DEVNULL  # GDCM quotes what it cannot read
        with theirs:
            process = subprocess.Popen(
                command, stdin=quiet, stdout=quiet, stderr=quiet, cwd=ROOT, pass_fds=[theirs.fileno()]
            )
        return process, ours


def serve(function: Callable[..., bytes], connection: Connection, cpu_seconds: float) -> None:
    """The process: calls in, answers out, until its owner closes the socket or dies (EOFError, OSError)."""
    while True:
        options, data = json.loads(connection.recv_bytes()), connection.recv_bytes()
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # nobody handles SIGPROF, so it ends the process
        refusal, answer = None, b""
        try:
            answer = function(data, **options)
        except RefusedFilm as refused:
            refusal = refused.type, refused.message
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        connection.send_bytes(json.dumps(refusal).encode())
        connection.send_bytes(answer)


if __name__ == "__main__":
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the owner, which lets its films end
    with suppress(ValueError, OSError):  # a system without such limits
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold a patient's film
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    with suppress(EOFError, OSError):
        serve(pkgutil.resolve_name(sys.argv[1]), Connection(int(sys.argv[2])), float(sys.argv[3]))
