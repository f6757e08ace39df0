"""Nodes of a Ray cluster on this machine, and the command that reads films on them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ray.cluster_utils import Cluster

from benchmarks.arms.reserved_ports import free_ports
from cluster.pipeline import LOOPBACK

ROOT = Path(__file__).parents[2]
PER_FILE = 8
MEMORY = 100 * 2**20
"""Of a node's object store: bytes."""
LIMIT = 600.0
"""Seconds, for what comes within some on a quiet machine."""


def add_node(cluster: Cluster, folder: Path) -> Any:
    """A node of one processor; the first is the head."""
    chosen: dict[str, Any] = {}
    if cluster.head_node is None:
        (port,) = free_ports(1)  # told none, a head takes numbers that every Ray takes
        chosen = {"redis_port": port, "dashboard_agent_listen_port": None}
        chosen |= {"include_dashboard": False, "temp_dir": str(folder)}
    with patch.dict(os.environ, RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0"):
        return cluster.add_node(num_cpus=1, object_store_memory=MEMORY, node_ip_address=LOOPBACK, **chosen)


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
