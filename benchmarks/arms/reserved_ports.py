"""TCP ports for servers that a run is going to start: no other run on this machine is given the same ones."""

import fcntl
import os
import random
import socket
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

PORTS = range(20_000, 32_768)
"""Below those that Linux gives to clients: one of these could be taken by a connection before the server listens."""

_given = set[int]()


def free_ports(number: int) -> list[int]:
    """Ports on which nothing listens; each is this process's until it ends, by a lock that ends with it.

    The locks are of single bytes of one file, for a file each would take the numbers that select(2) can tell apart.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(found) == number:
            break
        with suppress(OSError):
            if port not in _given:  # a process is never in its own way
                fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
                with socket.create_server(("127.0.0.1", port)):
                    _given.add(port)
                    found.append(port)
    return found


@cache
def _locks() -> IO[bytes]:
    """Open until the process ends: were it closed, and be it elsewhere in this process, the locks would be gone."""
    return Path(tempfile.gettempdir(), f"cxr-ports-{os.getuid()}.lock").open("ab")
