"""Films on a Ray cluster of this machine's own nodes, against the same steps in process.

    python -m benchmarks.cluster                     # everything; some 50 minutes on 2 cores
    python -m benchmarks.cluster --parts rate        # one part alone; the document keeps the others

    equal   5,000 films of 128 px and 88 full-size ones on 2 and 3 nodes: probabilities as in process
    killed  a node, then the command itself, killed half-way: every film once, none lost
    memory  20,000 films: the driver's memory, the object stores', what is spilled
    rate    films per second over in process, and over client.score through the service: turns in one run

The pair has random weights (``benchmarks/pairs.py``); its gate lets half of the full-size films through. The cluster's
rate is that of the middle half of the finished files, with as much under way at its start as at its end; ``whole_run``
is of all films over all the time, Ray's and the actors' start included.
"""

import argparse
import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset
from ray._private.internal_api import get_memory_info_reply, get_state_from_address
from ray.cluster_utils import Cluster
from rich.console import Console
from rich.table import Table

from benchmarks.arms.arm import ROOT
from benchmarks.arms.ours import Gateway, Workflow
from benchmarks.arms.ray_nodes import ray_cluster
from benchmarks.films import decoded, film_paths
from benchmarks.machine import machine
from benchmarks.pairs import IMAGE_SIZE, Pair, make_pair
from benchmarks.score import link
from benchmarks.serving import RESULTS, say
from client import score as client_score
from client.journal import ERROR, IMAGE, PROBABILITIES, ROUTED, row_of
from handlers.findings import STAGE_LABELS
from handlers.metadata import Metadata
from handlers.networks.vit import serving_device
from handlers.reading import Naming, Screening
from training.archive import pack_model
from workflows.files.atomic import write_text
from workflows.sums import place
from workflows.torchserve import MALLOC

SMALL, LARGE = ROOT.parent / "shared" / "nih-128", ROOT.parent / "shared" / "nih-1024"
PARTS = ("equal", "killed", "memory", "rate")
ROUNDS = 2
PER_FILE = 100
STORE_MEMORY = 200 * 2**20
"""Bytes of a node's object store."""
BATCH = 32

Expected = dict[str, dict[str, object]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--pair", choices=("tiny", "small", "base"), default="tiny", help="but for rates (%(default)s)")
    parser.add_argument("--rate-pair", choices=("tiny", "small", "base"), default="base", help="(%(default)s)")
    parser.add_argument("--films", type=int, default=5000, help="small ones (%(default)s)")
    parser.add_argument("--many", type=int, default=20_000, help="of the part 'memory' (%(default)s)")
    parser.add_argument("--rate-films", type=int, default=352, help="a turn (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS / "cluster.json")
    chosen = parser.parse_args()
    os.environ.update(MALLOC)
    document = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    document |= {"date": datetime.date.today().isoformat(), **machine()}
    with tempfile.TemporaryDirectory(prefix="cxr-") as name:
        folder = Path(name)
        if {"equal", "killed", "memory"} & set(chosen.parts):
            pair, store = pair_and_store(chosen.pair, folder)
            document |= reading(chosen, pair, store, folder)
        if "rate" in chosen.parts:
            pair, store = pair_and_store(chosen.rate_pair, folder)
            document["rate"] = rates(pair, store, folder, chosen.rate_films)
    write_text(chosen.out, json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))
    print_table(document)
    return 0


def pair_and_store(name: str, folder: Path) -> tuple[Pair, Path]:
    """A pair whose gate lets half of the full-size films through, and its two archives."""
    films = [path.read_bytes() for path in film_paths(LARGE, 88)]
    pair = make_pair(name, folder / name, decoded(films, IMAGE_SIZE))
    store, scratch = folder / f"store-{name}", folder / "scratch"
    store.mkdir()
    scratch.mkdir()
    stages = [pair.at_share(50) / stage for stage in STAGE_LABELS]
    place([pack_model(stage, Metadata.read(stage), scratch) for stage in stages], store)
    shutil.rmtree(scratch)
    return pair, store


def reading(chosen: argparse.Namespace, pair: Pair, store: Path, folder: Path) -> dict[str, Any]:
    """What becomes of films on nodes that come and go."""
    parts = chosen.parts
    films = [*film_paths(SMALL, chosen.films), *renamed(film_paths(LARGE, 88), folder / "large")]
    found: dict[str, Any] = {}
    if {"equal", "killed"} & set(parts):
        listing = folder / "films.txt"
        listing.write_text("".join(f"{path.absolute()}\n" for path in films))
        say(f"{len(films)} films in process")
        expected, seconds = in_process(pair, films)
        about = {"pair": pair.name, "films": len(films), "in_process_films_per_second": len(films) / seconds}
        found |= {part: dict(about) for part in ("equal", "killed") if part in parts}
    if "equal" in parts:
        for nodes in (2, 3):
            say(f"{len(films)} films on {nodes} nodes")
            found["equal"][f"{nodes}_nodes"] = undisturbed(listing, store, folder / f"equal-{nodes}", nodes, expected)
    if "killed" in parts:
        say("a node is killed")
        found["killed"]["node"] = node_killed(listing, store, folder / "node", expected)
        say("the command is killed")
        found["killed"]["command"] = command_killed(listing, store, folder / "command", expected)
    if "memory" in parts:
        say(f"{chosen.many} films, and what they take")
        found["memory"] = memory(films, chosen.many, store, folder, pair.name)
    return found


def renamed(films: Sequence[Path], folder: Path) -> list[Path]:
    """Full-size films under names of their own: some are among the small ones, too."""
    folder.mkdir()
    links = [folder / f"large-{film.name}" for film in films]
    for one, film in zip(links, films, strict=True):
        one.symlink_to(film.resolve())
    return links


def undisturbed(listing: Path, store: Path, results: Path, nodes: int, expected: Expected) -> dict[str, Any]:
    with ray_cluster(nodes, STORE_MEMORY) as one:
        started = time.perf_counter()
        end(start(listing, results, store, one))
        seconds = time.perf_counter() - started
    return compare(results, expected) | {"whole_run_films_per_second": len(expected) / seconds} | rate_of(results)


def node_killed(listing: Path, store: Path, results: Path, expected: Expected) -> dict[str, Any]:
    """One of three nodes goes when half of the files are there."""
    with ray_cluster(3, STORE_MEMORY) as one:
        run = start(listing, results, store, one)
        there = wait_for(lambda: len(parts_of(results)) >= len(expected) / PER_FILE / 2, run, results)
        one.remove_node(next(iter(one.worker_nodes)), allow_graceful=False)
        end(run)
    return {"files_when_killed": there} | compare(results, expected)


def command_killed(listing: Path, store: Path, results: Path, expected: Expected) -> dict[str, Any]:
    """The command goes when half of the files are there, and is given again."""
    with ray_cluster(2, STORE_MEMORY) as one:
        run = start(listing, results, store, one)
        there = wait_for(lambda: len(parts_of(results)) >= len(expected) / PER_FILE / 2, run, results)
        run.send_signal(signal.SIGKILL)
        run.wait()
        written = {path: path.stat().st_mtime_ns for path in parts_of(results)}
        end(start(listing, results, store, one))
    again = sum(path.stat().st_mtime_ns != when for path, when in written.items())
    return {"files_when_killed": there, "files_written_again": again} | compare(results, expected)


def memory(films: Sequence[Path], number: int, store: Path, folder: Path, pair: str) -> dict[str, Any]:
    """The most that the driver and the object stores hold while many films are read; films have several names."""
    archive = folder / "many"
    link(films, number, archive)
    with ray_cluster(2, STORE_MEMORY) as one:
        state, run = get_state_from_address(one.address), start(archive, folder / "many-read", store, one)
        driver, used, resident, spilled = psutil.Process(run.pid), [0], [0], 0
        while run.poll() is None:
            stats = get_memory_info_reply(state).store_stats
            used.append(stats.object_store_bytes_used)
            spilled = stats.spilled_bytes_total
            resident.append(driver.memory_info().rss if driver.is_running() else 0)
            time.sleep(1.0)
        end(run)
    rows = table_of(folder / "many-read")
    return {
        "pair": pair,
        "films": number,
        "rows": rows.num_rows,
        "different_names": len(set(rows[IMAGE].to_pylist())),
        "driver_peak_mib": max(resident) / 2**20,
        "driver_mib_by_quarter": [float(part.max()) / 2**20 for part in np.array_split(resident, 4)],
        "object_store_mib": 2 * STORE_MEMORY / 2**20,
        "object_store_peak_mib": max(used) / 2**20,
        "spilled_mib": spilled / 2**20,
        **rate_of(folder / "many-read"),
    }


def rates(pair: Pair, store: Path, folder: Path, number: int) -> dict[str, Any]:
    """Turns of the cluster, the steps in process and client.score, on the same full-size films."""
    films = film_paths(LARGE, 88)
    archive = folder / "rate"
    links = link([films[at] for at in pair.alternating()], number, archive)
    found: dict[str, list[float]] = {"cluster": [], "whole_run": [], "in_process": [], "client_score": []}
    gateway = Gateway(workflow := Workflow())
    for turn in range(ROUNDS):
        say(f"rates, round {turn + 1} of {ROUNDS}")
        found["in_process"].append(number / in_process(pair, links)[1])
        results = folder / f"rate-{turn}"
        with ray_cluster(2, STORE_MEMORY) as one:
            started = time.perf_counter()
            end(start(archive, results, store, one, per_file=BATCH))
            found["whole_run"].append(number / (time.perf_counter() - started))
        found["cluster"].append(rate_of(results)["films_per_second"])
        try:
            workflow.start(pair.at_share(50), folder / "server")
            gateway.start(pair.at_share(50), folder / "gateway")
            found["client_score"].append(served(gateway, archive, folder, turn, number))
        finally:
            gateway.stop()
            workflow.stop()
    ratios = {
        f"{ours}_over_{other}": [one / two for one, two in zip(found[ours], found[other], strict=True)]
        for ours in ("cluster", "whole_run")
        for other in ("in_process", "client_score")
    }
    return {"pair": pair.name, "films": number, "films_per_second": found, "ratios": ratios}


def served(gateway: Gateway, archive: Path, folder: Path, turn: int, number: int) -> float:
    target = gateway.target([])
    words = [str(archive), "--out", str(folder / f"served-{turn}.csv")]
    words += ["--address", f"http://{target.host}:{target.port}"]
    words += ["--key-file", str(folder / "gateway" / "secrets" / "first.key")]
    started = time.perf_counter()
    if code := client_score.main(words):
        raise SystemExit(f"client.score ended with {code}")
    return number / (time.perf_counter() - started)


def in_process(pair: Pair, films: Sequence[Path]) -> tuple[Expected, float]:
    """Rows by name, and the seconds that they took, files' reading included."""
    archives, device = pair.at_share(50), serving_device()
    screening, naming = Screening(archives / "binary", device), Naming(archives / "disease", device)
    screening.vit.warm_up()
    naming.vit.warm_up()
    rows: Expected = {}
    started = time.perf_counter()
    for start in range(0, len(films), BATCH):
        part = films[start : start + BATCH]
        reports = naming.name(screening.screen([path.read_bytes() for path in part]))
        rows |= {path.name: row_of(path.name, report) for path, report in zip(part, reports, strict=True)}
    return rows, time.perf_counter() - started


def compare(results: Path, expected: Expected) -> dict[str, Any]:
    """The results beside what was read in process."""
    rows = table_of(results).to_pylist()
    by_name = {str(row[IMAGE]): row for row in rows}
    both = [(row, expected[name]) for name, row in by_name.items() if name in expected]
    read = [(row, other) for row, other in both if row[ERROR] is None and ERROR not in other]
    numbers = [[[side[name] for name in PROBABILITIES] for side in pair] for pair in read]
    return {
        "rows": len(rows),
        "films_twice": len(rows) - len(by_name),
        "films_lost": len(expected.keys() - by_name.keys()),
        "refused": sum(row[ERROR] is not None for row in rows),
        "refused_otherwise": sum(row[ERROR] != other.get(ERROR) for row, other in both),
        "routed": sum(bool(row[ROUTED]) for row in rows),
        "routed_otherwise": sum(row[ROUTED] != other[ROUTED] for row, other in read),
        "largest_difference": float(np.abs(np.diff(np.array(numbers, np.float64), axis=1)).max()),
    }


def rate_of(results: Path) -> dict[str, float]:
    """Films per second in the middle half of the finished files."""
    ended = sorted(path.stat().st_mtime for path in parts_of(results))
    first, last = len(ended) // 4, 3 * len(ended) // 4
    films = table_of(results).num_rows * (last - first) / len(ended)
    return {"films_per_second": films / (ended[last] - ended[first])}


def start(
    source: Path, results: Path, store: Path, one: Cluster, per_file: int = PER_FILE
) -> "subprocess.Popen[bytes]":
    words = [str(source), "--out", str(results), "--models", str(store), "--address", one.address]
    command = [sys.executable, "-m", "cluster.score", *words, "--films-per-file", str(per_file)]
    return subprocess.Popen(command, cwd=ROOT)


def end(run: "subprocess.Popen[bytes]") -> None:
    if run.wait() not in (0, 4):  # 4: films were refused
        raise SystemExit(f"cluster.score ended with {run.returncode}")


def wait_for(seen: Callable[[], bool], run: "subprocess.Popen[bytes]", results: Path) -> int:
    """The number of finished files when something is seen."""
    while not seen():
        if run.poll() is not None:
            raise SystemExit("cluster.score ended before it was to be killed")
        time.sleep(0.02)
    return len(parts_of(results))


def parts_of(results: Path) -> list[Path]:
    return sorted(results.glob("part-*.parquet"))


def table_of(results: Path) -> pa.Table:
    return pyarrow.dataset.dataset(parts_of(results), format="parquet").to_table()


def print_table(document: dict[str, Any]) -> None:
    table = Table("what", "found")
    for row in [row for part in PARTS for row in flat(document.get(part, {}), part)]:
        table.add_row(*row)
    Console().print(table)


def flat(found: dict[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """Figures and their names, from the outermost key in."""
    for key, value in found.items():
        if isinstance(value, dict):
            yield from flat(value, f"{name}, {key}")
        else:
            values = value if isinstance(value, list) else [value]
            yield f"{name}, {key}", ", ".join(f"{one:.4g}" if isinstance(one, float) else str(one) for one in values)


if __name__ == "__main__":
    sys.exit(main())
