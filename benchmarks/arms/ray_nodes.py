"""Nodes of a Ray cluster on this machine."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ray.cluster_utils import Cluster

from benchmarks.arms.reserved_ports import free_ports
from cluster.pipeline import LOOPBACK

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
"""Nothing is reported, and what the nodes start is as nice as what they are compared with."""


@contextmanager
def ray_cluster(nodes: int, store_memory: int) -> Iterator[Cluster]:
    """Nodes of one processor each; all that they start ends with the block.

    Args:
        store_memory: of each node's object store, in bytes.
    """
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # Ray's sockets have paths of at most 107 letters
    (port,) = free_ports(1)  # told none, a head takes numbers that every Ray takes
    head = {"redis_port": port, "dashboard_agent_listen_port": None, "include_dashboard": False}
    # For all files, also the one with this user's last cluster's address, which is overwritten and removed unasked.
    own = {"RAY_TMPDIR": str(folder)}
    one = Cluster(shutdown_at_exit=True)
    try:
        with patch.dict(os.environ, own):
            for number in range(nodes):
                add_node(one, store_memory, **({} if number else head))
        yield one
    finally:
        with patch.dict(os.environ, own):
            one.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def add_node(one: Cluster, store_memory: int, **options: Any) -> None:
    """One more, of one processor."""
    with patch.dict(os.environ, QUIET):
        one.add_node(num_cpus=1, object_store_memory=store_memory, node_ip_address=LOOPBACK, **options)
