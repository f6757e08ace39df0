"""What each process of a running service holds: threads, memory, open files."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.gateway.conftest import Gateway
from tests.live.clients import in_turn
from workflows import torchserve
from workflows.server import Server

JVM = "JVM"
WORKERS = ("binary worker", "disease worker")
GATEWAY = "gateway"
MEMORY_GROWTH, MEMORY_MORE = 1.10, 32.0
"""Factor, and MB beside it, of resident memory after a warm-up: a few films that are in flight."""
JVM_MEMORY = 1400.0
"""MB that the JVM's heap (-Xmx1g) and its own code come to sooner or later, by whatever garbage they are given: up to
there its growth is no leak."""
LARGE = 30 * 2**20
THREADS_MORE = 5
FILES_MORE = 20
"""Connections that clients and nodes keep open for a while are files, too."""


@dataclass(frozen=True)
class Footprint:
    """By process; what a worker's decoder processes hold counts as the worker's.

    Attributes:
        pids: of the JVM, the two workers and the gateway.
        threads: number.
        memory: MB, resident.
        files: open files and sockets.
    """

    pids: dict[str, int]
    threads: dict[str, int]
    memory: dict[str, float]
    files: dict[str, int]

    def growth(self, before: "Footprint") -> list[str]:
        """What has grown since ``before`` by more than is allowed, in words; empty where nothing has."""
        found = [f"{one} is another process" for one in self.pids if self.pids[one] != before.pids[one]]
        memory = before.memory | {JVM: max(before.memory[JVM], JVM_MEMORY)}
        for what, now, then, limit in (
            ("threads", self.threads, before.threads, lambda number: number + THREADS_MORE),
            ("MB", self.memory, memory, lambda number: number * MEMORY_GROWTH + MEMORY_MORE),
            ("files", self.files, before.files, lambda number: number + FILES_MORE),
        ):
            found += _over(what, now, then, limit)
        return found


def _over(what: str, now: Mapping[str, float], then: Mapping[str, float], limit) -> list[str]:
    return [f"{one}: {then[one]} -> {now[one]} {what}" for one in now if now[one] > limit(then[one])]


def footprint(server: Server, gateway: Gateway) -> Footprint:
    """Of the service as it stands."""
    found = processes(server) | {GATEWAY: [gateway_process(gateway)]}
    return Footprint(
        pids={name: group[0].pid for name, group in found.items()},
        threads={name: sum(one.num_threads() for one in group) for name, group in found.items()},
        memory={name: round(sum(one.memory_info().rss for one in group) / 2**20, 1) for name, group in found.items()},
        files={name: sum(one.num_fds() for one in group) for name, group in found.items()},
    )


def fill_heap(gateway: Gateway) -> None:
    """Sends large bodies, so that a heap that grows to what it may hold is not taken for a leak afterwards."""
    answers = in_turn(gateway, [bytes(LARGE)] * 24, clients=4)
    assert {answer.problem for answer in answers} == {"UnreadableImage"}


def cpu_seconds(server: Server, gateway: Gateway) -> float:
    """That the service has used so far."""
    used = [one.cpu_times() for group in (*processes(server).values(), [gateway_process(gateway)]) for one in group]
    return sum(times.user + times.system for times in used)


def gateway_process(gateway: Gateway) -> psutil.Process:
    return psutil.Process(gateway.process.pid)


def processes(server: Server) -> dict[str, list[psutil.Process]]:
    """The JVM and the workers, each followed by the decoder processes that it started."""
    found: dict[str, list[psutil.Process]] = defaultdict(list)
    running = torchserve.running(server)
    for process in running:
        if "org.pytorch.serve.ModelServer" in process.cmdline():
            found[JVM].insert(0, process)
        elif any(word.endswith("model_service_worker.py") for word in process.cmdline()):
            found[_node(process)].insert(0, process)
    for name in WORKERS:
        found[name] += [child for worker in found[name][:1] for child in worker.children(recursive=True)]
    return {name: found[name] for name in (JVM, *WORKERS)}


def _node(worker: psutil.Process) -> str:
    """A worker's working directory is its unpacked archive."""
    manifest = json.loads((Path(worker.cwd()) / "MAR-INF" / "MANIFEST.json").read_text())
    return f"{manifest['model']['modelName']} worker"
