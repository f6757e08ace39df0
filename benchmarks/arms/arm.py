"""What every server under test can do: start on a pair of checkpoints, take films, be counted, stop."""

import json
import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from importlib.machinery import PathFinder
from pathlib import Path

import psutil

from benchmarks.arms import tally
from benchmarks.arms.reserved_ports import free_ports
from benchmarks.load import Target
from benchmarks.machine import peers_folders, peers_python
from workflows.register import probe_film

ROOT = Path(__file__).parents[2]
START_LIMIT = 150.0
"""Seconds until a started server must have read a film."""


class ArmError(Exception):
    """A server that cannot be measured, and why."""


class Arm(ABC):
    """One server under test.

    Attributes:
        name: as in the results.
        needs: packages without which it is left out.
    """

    name: str
    needs: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Why this server cannot be started here; None where it can."""
        absent = [package for package in self.needs if PathFinder.find_spec(package, peers_folders()) is None]
        return f"{', '.join(absent)} not installed: make .venv-peers/installed" if absent else None

    @abstractmethod
    def start(self, share: Path, folder: Path) -> None:
        """Brings the server up on ``share`` (``binary/``, ``disease/``); its own files go under ``folder``.

        Raises:
            ArmError: it did not come up.
        """

    @abstractmethod
    def stop(self) -> None:
        """Ends what ``start`` began, also where it came not far; nothing happens where nothing runs."""

    @abstractmethod
    def target(self, films: Sequence[bytes]) -> Target: ...

    @abstractmethod
    def probabilities(self, body: bytes) -> list[float]:
        """The 15 of an answer: p(finding), and the 14, zeros where the film was not routed."""

    @abstractmethod
    def processes(self) -> list[psutil.Process]: ...

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """``binary_batches``, ``binary_films``, ``disease_batches``, ``disease_films`` since the start."""


class Peer(Arm):
    """A Python server of this folder: a module that serves the pair in ``PAIR`` on port ``PORT``.

    It answers ``{"finding": p, "diseases": [14] or null}``.
    """

    path = "/read"

    def __init__(self, name: str, module: str, needs: tuple[str, ...]) -> None:
        self.name, self.module, self.needs = name, module, needs
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, share: Path, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "tally").mkdir(parents=True)
        (self._port,) = free_ports(1)
        self._folder = folder
        environment = {
            **os.environ,
            "PAIR": str(share),
            "PORT": str(self._port),
            "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            tally.FOLDER: str(folder / "tally"),
        }
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [peers_python(), "-m", self.module],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until_read(self.target([probe_film()]), self._process, folder / "log")

    def stop(self) -> None:
        end(self.processes())
        self._process = None

    def target(self, films: Sequence[bytes]) -> Target:
        return Target("127.0.0.1", self._port, self.path, {"Content-Type": "application/octet-stream"}, films)

    def probabilities(self, body: bytes) -> list[float]:
        answer = json.loads(body)
        return [answer["finding"], *(answer["diseases"] or [0.0] * 14)]

    def processes(self) -> list[psutil.Process]:
        return tree(self._process.pid) if self._process else []

    def counts(self) -> dict[str, int]:
        return tally.read(self._folder / "tally")


def tree(pid: int) -> list[psutil.Process]:
    """The process and all that it has started, as far as they live."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(processes: Sequence[psutil.Process]) -> None:
    """Asks the first to go, and ends what is left of all of them after 15 s."""
    if not processes:
        return
    with suppress(psutil.NoSuchProcess):
        processes[0].send_signal(signal.SIGTERM)
    _, left = psutil.wait_procs(processes, timeout=15)
    for one in left:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(left, timeout=5)


def wait_until_read(target: Target, process: subprocess.Popen[bytes], log: Path) -> None:
    """Posts a film until it is read.

    Raises:
        ArmError: the process has ended, or the time is over.
    """
    deadline, said = time.monotonic() + START_LIMIT, "no answer"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ArmError(f"ended with {process.returncode}: {log.read_text()[-600:]}")
        connection = HTTPConnection(target.host, target.port, timeout=30)
        try:
            connection.request("POST", target.path, target.bodies[0], target.headers)
            response = connection.getresponse()
            said = f"HTTP {response.status}: {response.read()[:300].decode(errors='replace')}"
            if response.status == 200:
                return
        except (OSError, HTTPException) as fault:
            said = repr(fault)
        finally:
            connection.close()
        time.sleep(0.3)
    raise ArmError(f"read no film within {START_LIMIT:g} s ({said}): {log.read_text()[-400:]}")
