"""Replicas of the service on one machine, each a gateway with a TorchServe of its own, behind a balancer (Debian's
``haproxy``, as ``deploy/haproxy.cfg`` has it). They share records and keys, and nothing else."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from benchmarks.arms.reserved_ports import free_ports
from benchmarks.arms.torchserve import configure
from tests.gateway.conftest import ROOT, Gateway

PROGRAM = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
LIMIT = 240.0
"""Seconds until a replica is ready or has ended, on two cores that others use too."""
PAUSE = 0.25
"""Seconds between two questions whether it is."""


class Replica:
    """One, from the start on: not ready yet.

    Args:
        folder: of its own.
        pair: the store of the models that it serves.
        secrets: the folder of the keys.
        records: the database's URL.
    """

    def __init__(self, folder: Path, pair: Path, secrets: Path, records: str, key: str) -> None:
        server = folder / "server"
        self._store = server / "model_store"
        shutil.copytree(pair, self._store)
        configure(server)
        self.gateway = Gateway(server, folder, ready=False, secrets=secrets, records=records)
        self.gateway.key = key
        self.port = self.gateway.port

    def wait_until_ready(self) -> None:
        wait_until(self._is_ready)

    def end(self, sent: signal.Signals) -> int:
        """Its exit code; its TorchServe goes with it."""
        self.gateway.process.send_signal(sent)
        return self.gateway.process.wait(LIMIT)

    def start_with(self, pair: Path) -> None:
        """Another pair, once it has ended; returns when it is ready."""
        for path in pair.iterdir():
            shutil.copy(path, self._store)
        self.gateway.start()
        self.wait_until_ready()

    def _is_ready(self) -> bool:
        assert self.gateway.process.poll() is None, self.gateway.log_text
        with suppress(httpx.ConnectError):
            return self.gateway.get("/health/ready").is_success
        return False


class Balancer:
    """In front of three replicas.

    Attributes:
        key: that its clients use.
    """

    def __init__(self, replicas: list[Replica], folder: Path, key: str) -> None:
        (self.port,) = free_ports(1)
        self.key = key
        told = {f"CXR_REPLICA_{number}": f"127.0.0.1:{one.port}" for number, one in enumerate(replicas, 1)}
        told["CXR_BALANCER"] = f"127.0.0.1:{self.port}"
        with (folder / "haproxy.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(PROGRAM), "-db", "-f", str(ROOT / "deploy" / "haproxy.cfg")],
                env={**os.environ, **told},
                stdout=log,
                stderr=log,
            )
        wait_until(self._listens)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def _listens(self) -> bool:
        assert self.process.poll() is None
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False


def wait_until(happened: Callable[[], bool]) -> None:
    """Asks again and again, seldom enough to leave the processors to those who are asked."""
    limit, pause = time.monotonic() + LIMIT, threading.Event()
    while not happened():
        assert time.monotonic() < limit, f"did not happen within {LIMIT:g} s"
        pause.wait(PAUSE)
