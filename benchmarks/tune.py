"""Chooses the workflow's batch size and delay on this machine, and writes them to workflows/chest_xray.yaml.

    python -m benchmarks.tune            # 9 settings, a TorchServe for each: some 6 minutes on 2 cores

Each setting serves a ViT-B/16 pair of random weights, half of the films routed, at a concurrency of 32 and of 1. The
one with the most films per second wins, among those that keep a film alone waiting at most 10 ms longer than the
quickest; within 2% of the best, the shorter delay, then the smaller batch.
"""

import argparse
import itertools
import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import load
from benchmarks.arms.ours import WORKFLOWS, Workflow
from benchmarks.films import decoded, film_paths
from benchmarks.pairs import IMAGE_SIZE, make_pair
from benchmarks.serving import NIH, SAMPLE, say
from workflows.active import WORKFLOW
from workflows.files.atomic import write_text

SPECIFICATION = WORKFLOWS / f"{WORKFLOW}.yaml"
BATCH_SIZES = (8, 16, 32)
DELAYS = (2, 5, 10)
"""ms."""
WAITS_LONGER = 10.0
"""ms that a film alone may wait longer than at the quickest setting."""
ALIKE = 0.98


class Setting(NamedTuple):
    """What was tried, and found: films per second at a concurrency of 32, ms of a film alone.

    The latter is a mean over films: half of them go through both stages, and a median would be of one or the other.
    """

    batch_size: int
    delay: int
    films_per_second: float
    alone: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune", description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=Path, default=NIH if NIH.exists() else SAMPLE, help="folder with PNG films")
    parser.add_argument("--pair", choices=("base", "small"), default="base", help="ViT-B/16 or a small one")
    parser.add_argument("--seconds", type=float, default=15.0, help="of sending, a setting (%(default)s)")
    chosen = parser.parse_args()
    films = [path.read_bytes() for path in film_paths(chosen.films, 32)]
    with tempfile.TemporaryDirectory(prefix="cxr-") as folder:
        pair = make_pair(chosen.pair, Path(folder) / chosen.pair, decoded(films, IMAGE_SIZE))
        order = pair.alternating()
        films = [films[at] for at in order]
        tried = [
            measure(pair.at_share(50), films, Path(folder), batch_size, delay, chosen.seconds)
            for batch_size, delay in itertools.product(BATCH_SIZES, DELAYS)
        ]
    best = choose(tried)
    write_text(SPECIFICATION, specified(SPECIFICATION.read_text(), best.batch_size, best.delay))
    print_table(tried, best)
    return 0


def measure(share: Path, films: list[bytes], folder: Path, batch_size: int, delay: int, seconds: float) -> Setting:
    """One setting, through a TorchServe of its own."""
    say(f"batch size {batch_size}, delay {delay} ms")
    arm = Workflow()
    arm.specification = folder / SPECIFICATION.name
    arm.specification.write_text(specified(SPECIFICATION.read_text(), batch_size, delay))
    try:
        arm.start(share, folder / "server")
        target = arm.target(films)
        crowd = load.closed_loop(target, 32, seconds, least=64)
        alone = load.closed_loop(target, 1, seconds / 3, least=len(films))
    finally:
        arm.stop()
    milliseconds = statistics.fmean(load.by_film(alone).values())
    return Setting(batch_size, delay, load.films_per_second(crowd), milliseconds)


def choose(tried: list[Setting]) -> Setting:
    """The setting to serve with."""
    quickest = min(one.alone for one in tried)
    patient = [one for one in tried if one.alone <= quickest + WAITS_LONGER]
    most = max(one.films_per_second for one in patient)
    alike = [one for one in patient if one.films_per_second >= ALIKE * most]
    return min(alike, key=lambda one: (one.delay, one.batch_size))


def specified(text: str, batch_size: int, delay: int) -> str:
    """The specification with other numbers; its comments stay.

    Raises:
        ValueError: it names no batch size or no delay.
    """
    for name, value in (("batch-size", batch_size), ("max-batch-delay", delay)):
        text, found = re.subn(rf"(?m)^(\s*{name}:\s*)\d+", rf"\g<1>{value}", text)
        if found != 1:
            raise ValueError(f"{SPECIFICATION} names '{name}' {found} times, not once")
    return text


def print_table(tried: list[Setting], best: Setting) -> None:
    table = Table("batch size", "delay, ms", "films/s at 32", "a film alone, ms", "", title=f"{SPECIFICATION.name}")
    for one in tried:
        mark = "chosen" if one == best else ""
        numbers = (str(one.batch_size), str(one.delay), f"{one.films_per_second:.2f}", f"{one.alone:.1f}")
        table.add_row(*numbers, mark)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
