"""TCP ports for servers that a run is going to start: no other run on this machine is given the same ones."""

import fcntl
import os
import random
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

PORTS = range(20_000, 32_768)
"""Below those that Linux gives to clients: one of these could be taken by a connection before the server listens."""

_held = []


def free_ports(number: int) -> list[int]:
    """Ports on which nothing listens; each is this process's until it ends, by a lock that ends with it."""
    locks = Path(tempfile.gettempdir(), f"cxr-ports-{os.getuid()}")
    locks.mkdir(exist_ok=True)
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(found) == number:
            break
        with suppress(OSError):
            lock = (locks / str(port)).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.create_server(("127.0.0.1", port)):
                _held.append(lock)
                found.append(port)
    return found
