"""Films per second of a data folder packed into tar files over those of the folder, as a training reads them.

    python -m benchmarks.shards --data /data/nih              # some minutes for 15,000 small films
    python -m benchmarks.shards --data /data/nih --films 3000 # of its first films
    python -m benchmarks.shards --data /data/nih --quick      # its first 500, one round, to try the script

Three things are timed, in turns: the bytes alone, one film after the other; a first start, which lists, decodes and
caches the films; and a later start, which finds them in the cache and looks only whether they have changed. Each from
a warm page cache, from a cold one (the films' pages are dropped, the names stay), and from a disk that is made slow:
every stat, open and read of a film waits first, as for a shared disk's answer. Prints and writes results/shards.json.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.machine import machine
from training.data import shards
from training.data.films import read_films, read_table
from training.data.pack import pack
from training.data.pixels import load_pixels
from training.fit.run_folder import hash_of
from workflows.files.atomic import write_text

RESULTS = Path(__file__).parent / "results"
SIDE = 128
WAIT = 0.0005
"""Seconds by which each answer of the slow disk is late."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a data folder of files")
    parser.add_argument("--rounds", type=int, default=3, help="of each arm (%(default)s)")
    parser.add_argument("--films", type=int, help="how many, a third of them from each split; all unless told")
    parser.add_argument("--quick", action="store_true", help="500 films, one round, into results/quick")
    arguments = parser.parse_args()
    number, rounds = (500, 1) if arguments.quick else (arguments.films, arguments.rounds)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as scratch:
        folder, packed = arguments.data, Path(scratch, "packed")
        if number:
            folder = beginning(folder, Path(scratch, "films"), number)
        start = time.perf_counter()
        pack(folder, packed)
        seconds = time.perf_counter() - start
        document = measure({"folder": folder, "packed": packed}, Path(scratch), rounds)
    document = {**machine(), "seconds_to_pack": round(seconds, 2), "wait_ms": WAIT * 1000, **document}
    out = RESULTS / "quick" if arguments.quick else RESULTS
    out.mkdir(exist_ok=True)
    write_text(out / "shards.json", json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))


def beginning(folder: Path, out: Path, number: int) -> Path:
    """A folder with copies of the first films of each split, in a table of its own."""
    films = read_films(folder, 0.1, 0).table.groupby("split").head(number // 3)
    rows = ["path,patient,split,Effusion", *(f"{one.image},{one.patient},{one.split},0" for one in films.itertuples())]
    out.mkdir()
    (out / "films.csv").write_text("\n".join(rows) + "\n")
    for path in films["path"]:
        shutil.copy2(path, out)
    return out


def measure(folders: dict[str, Path], scratch: Path, rounds: int) -> dict[str, Any]:
    """Films per second of each arm under each condition, medians over rounds, and the ratios packed / folder."""
    rates: dict[str, dict[str, dict[str, list[float]]]] = {}
    number = len(read_table(folders["folder"]).table)
    for _ in range(rounds):
        for state, prepared in {"warm": warm, "cold": cold, "slow": slow}.items():
            for name, folder in folders.items():
                cache = scratch / f"cache-{name}"
                shutil.rmtree(cache, ignore_errors=True)
                for what, arm in {"bytes": read_bytes, "first start": start_on, "later start": start_on}.items():
                    with prepared(folder):
                        seconds = timed(lambda arm=arm, folder=folder, cache=cache: arm(folder, cache))
                    rates.setdefault(what, {}).setdefault(state, {}).setdefault(name, []).append(number / seconds)
                    print(f"{what}, {state}, {name}: {number / seconds:.0f} films/s", flush=True)
    medians = {
        what: {state: {name: statistics.median(of) for name, of in arms.items()} for state, arms in states.items()}
        for what, states in rates.items()
    }
    return {
        "films": number,
        "packed_over_folder": {
            what: {state: round(arms["packed"] / arms["folder"], 2) for state, arms in states.items()}
            for what, states in medians.items()
        },
        "films_per_second": {
            what: {state: {name: round(rate, 1) for name, rate in arms.items()} for state, arms in states.items()}
            for what, states in medians.items()
        },
    }


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def read_bytes(folder: Path, _: Path) -> None:
    for path in read_films(folder, 0.1, 0).table["path"]:
        path.read_bytes()


def start_on(folder: Path, cache: Path) -> None:
    """What a training does before its first step."""
    films = read_films(folder, 0.1, 0)
    hash_of(films)
    load_pixels(films, SIDE, cache, skip_unreadable=False)


@contextmanager
def warm(folder: Path) -> Iterator[None]:
    read_bytes(folder, folder)
    yield


@contextmanager
def cold(folder: Path) -> Iterator[None]:
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    yield


@contextmanager
def slow(folder: Path) -> Iterator[None]:
    """Every stat, open and read of a film is late; tables and the listing of folders are as fast as they are."""
    stat, whole, part = Path.stat, Path.read_bytes, os.pread

    def late(call: Callable[..., Any], times: int) -> Callable[..., Any]:
        def waiting(*words: Any, **options: Any) -> Any:
            time.sleep(times * WAIT)
            return call(*words, **options)

        return waiting

    with (
        mock.patch.object(Path, "stat", late(stat, 1)),
        mock.patch.object(Path, "read_bytes", late(whole, 2)),  # open, read
        mock.patch.object(shards.os, "pread", late(part, 1)),
    ):
        yield


if __name__ == "__main__":
    main()
