"""The command that reads films on a cluster, as a process of its own."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
PER_FILE = 8
LIMIT = 600.0
"""Seconds, for what comes within some on a quiet machine."""


def start(*words: object) -> "subprocess.Popen[str]":
    """The command, with some films a file."""
    command = [sys.executable, "-m", "cluster.score", *map(str, words), "--films-per-file", str(PER_FILE)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(seen: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Until something is seen; fails where the command ends before."""
    deadline = time.monotonic() + LIMIT
    while not seen():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it was not seen in time"
        time.sleep(0.02)
