"""The steps of a reading as one stream over a Ray cluster, each in a pool of actors.

    shards -> decode -> stage 1 and the gate -> stage 2 -> rows, to whoever asks for them

Decoding keeps nothing from one shard to the next and could be tasks. But Ray ends a task's process that is idle for a
second where a node has more processes than processors, as here it has, and each new one would import for seconds.
Ray Data's streams do not fork: of a film that the gate skips a row of some hundred bytes goes through the second pool,
without pixels, and no network sees it there.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from cluster.models import Model, image_size
from cluster.steps import SHARD, Decode, Name, Screen
from workflows.command_line import Fault
from workflows.torchserve import MALLOC

ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Every process computes on one core, and there are as many of each kind as there are cores."""
LOOPBACK = "127.0.0.2"
"""Where a Ray of this machine's own says that it is; 127.0.0.1 it replaces by the address that others reach it by. It
listens on all addresses none the less, and refuses who has not the token that it makes."""
ACTOR = 0.1
"""Of a processor, as Ray counts them. An actor is given little, for the actors of a node that dies have to find room on
those that are left: tasks that were theirs wait for them. The operating system shares the cores between the stages."""
BATCH, BATCH_ON_GPU = 32, 256
"""Films that an actor is given at once."""


class ClusterFault(Fault):
    """What is wrong with the cluster, or with where the films lie; the same command goes on once that is mended."""


@dataclass(frozen=True)
class Pools:
    """How many actors there are of each kind, and what a stage's are given."""

    decoders: int
    stages: int
    batch: int
    gpus: float

    @classmethod
    def of_cluster(cls) -> "Pools":
        """A decoder for every processor, and an actor of each stage for every GPU; without GPUs for every processor."""
        there = ray.cluster_resources()
        processors, gpus = max(1, int(there.get("CPU", 1))), int(there.get("GPU", 0))
        if gpus:
            return cls(processors, gpus, BATCH_ON_GPU, 0.5)
        return cls(processors, processors, BATCH, 0.0)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Joined to the cluster of ``address``, or, where there is none, to a Ray of this machine's own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its C++ prints errors to the terminal that are none, as of every pool that an actor might be lost; what ends a
    # reading comes as an exception.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    where: dict[str, Any] = {"address": address}
    if address is None:
        where = {"address": "local", "include_dashboard": False}
        where |= {"_node_ip_address": LOOPBACK} if sys.platform == "linux" else {}  # elsewhere it is so by itself
    environment = {"env_vars": ONE_THREAD | MALLOC}
    ray.init(**where, runtime_env=environment, log_to_driver=False, logging_level=logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()


def readings(shards: Sequence[int], results: str, store: Path, models: dict[str, Model]) -> Iterator[pa.Table]:
    """Rows of ``cluster.steps.READING`` of these shards' films, as they come: some of each, in any order.

    Raises:
        ClusterFault: a step raised, which is no film's fault, or nothing came for half an hour.
    """
    pools, side = Pools.of_cluster(), image_size(store)
    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    # A few films are fewer than there are actors, which is nobody's mistake.
    warnings.filterwarnings("ignore", "The minimum number of concurrent actors", UserWarning)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context.target_max_block_size = pools.batch * side * side
    each: dict[str, Any] = {"num_cpus": ACTOR, "batch_format": "pyarrow"}
    decoders = {"compute": ActorPoolStrategy(size=pools.decoders), **each}
    stages = {"compute": ActorPoolStrategy(size=pools.stages), "num_gpus": pools.gpus, **each}
    stream = (
        ray.data.from_items([{SHARD: shard} for shard in shards], override_num_blocks=len(shards))
        .map_batches(Decode, fn_constructor_args=(results, side, BATCH), batch_size=1, **decoders)
        .map_batches(Screen, fn_constructor_args=(str(store), models["binary"]), batch_size=pools.batch, **stages)
        .map_batches(Name, fn_constructor_args=(str(store), models["disease"]), batch_size=2 * pools.batch, **stages)
    )
    try:
        yield from stream.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except (RayError, ExecutionTimeoutError) as fault:
        raise ClusterFault(f"the cluster gave up: {str(fault).strip().splitlines()[-1]}") from fault
