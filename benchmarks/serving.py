"""Films per second of the served cascade against the hardware's limit and against other servers.

    python -m benchmarks.serving              # everything; some 20 minutes on 2 cores
    python -m benchmarks.serving --quick      # fewer films, conditions and peers; under 5 minutes

Everybody computes in the precision that ``auto`` gives a trained pair on this machine. A quick run writes into
``results/quick/``, and leaves the published figures alone.

All arms run in one call, in turn, on the same films and checkpoints (``benchmarks/pairs.py``: random weights).
Servers of one condition are up together and idle but for the one whose turn it is. Prints a table and writes one JSON
document; a peer that is not installed is left out by name, one that fails is reported and the others go on.
"""

import argparse
import datetime
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stdout
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

from benchmarks import limit, summary
from benchmarks.arms.arm import ROOT, Arm, Peer
from benchmarks.arms.litserve_arm import LitServe
from benchmarks.arms.ours import Float32, Gateway, Workflow
from benchmarks.arms.torchserve_example.arm import TorchServeExample
from benchmarks.films import as_dicom, as_jpeg, decoded, film_paths
from benchmarks.machine import look_in, machine, own_precision, peers_folders
from benchmarks.measure import Films, measure, nothing_to_read, single_films
from benchmarks.pairs import IMAGE_SIZE, Pair, make_pair
from benchmarks.plan import EVERY, FULL, QUICK, Cell, Plan
from handlers.bfloat16_rule import Precision
from workflows.files.atomic import write_text
from workflows.torchserve import MALLOC

RESULTS = Path(__file__).parent / "results"
NIH = ROOT.parent / "shared" / "nih-1024"
SAMPLE = ROOT / "data" / "sample"
PAIRS = ("tiny", "small", "base")
SINGLE_FILMS = 16
"""Films whose way is timed one by one."""
SINGLE_TURNS = 5
"""As often, in turns with the limit: what slows the machine for a minute is in both."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=Path, default=NIH if NIH.exists() else SAMPLE, help="folder with PNG films")
    parser.add_argument("--quick", action="store_true", help="fewer films, conditions and peers")
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--arms", nargs="+", choices=EVERY, default=list(EVERY))
    parser.add_argument("--precision", choices=get_args(Precision), help="instead of auto's, of a trained pair")
    parser.add_argument("--out", type=Path, help="the JSON document (results/serving.json, quick: results/quick/)")
    chosen = parser.parse_args()
    out = chosen.out or out_of("serving.json", chosen.quick)
    precision = chosen.precision or own_precision()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # or the servers would stay up
    os.environ.update(MALLOC)  # for the limit and every server alike
    started = time.monotonic()
    document = {"quick": chosen.quick, "date": datetime.date.today().isoformat(), **machine()}
    bench = Bench(QUICK if chosen.quick else FULL, chosen.films, tuple(chosen.arms), precision)
    for pair, cells in groupby(
        (cell for cell in bench.plan.cells if cell.pair in chosen.pairs), lambda cell: cell.pair
    ):
        bench.run_pair(pair, list(cells))
    document |= {"minutes": round((time.monotonic() - started) / 60, 1), **bench.document()}
    write_text(out, json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))
    summary.print_tables(document)
    return 0


def out_of(name: str, quick: bool) -> Path:
    """Where a document goes: a quick run's into a folder that is not committed."""
    folder = RESULTS / "quick" if quick else RESULTS
    folder.mkdir(exist_ok=True)
    return folder / name


class Bench:
    """The arms, the conditions and what was found.

    Attributes:
        rows: one a condition, arm and round.
        limits: per pair, the limit's search.
        left_out, failed: arms by name, and why.
    """

    def __init__(self, plan: Plan, films: Path, arms: tuple[str, ...], precision: Precision) -> None:
        self.plan, self.precision = plan, precision
        self.films = [path.read_bytes() for path in film_paths(films, plan.films)]
        workflow = Workflow()
        every: tuple[Arm, ...] = (
            workflow,
            Gateway(workflow),
            TorchServeExample(),
            LitServe(),
            Peer("ray_serve", "benchmarks.arms.ray_serve", ("ray",)),
            Peer("fastapi_pipelines", "benchmarks.arms.fastapi_pipelines", ("fastapi", "uvicorn")),
            Float32(),
        )
        wanted = [arm for arm in every if arm.name in arms]
        self.left_out = {arm.name: why for arm in wanted if (why := arm.missing())}
        self.arms = {arm.name: arm for arm in wanted if arm.name not in self.left_out}
        self.rows: list[dict[str, Any]] = []
        self.limits: dict[str, Any] = {}
        self.failed: dict[str, str] = {}
        self.profile: dict[str, Any] = {}
        self.overheads: dict[str, list[float]] = {}
        self.hop: dict[str, int] = {}

    def run_pair(self, name: str, cells: list[Cell]) -> None:
        """Every condition of one pair; the limit has a process of its own that lives as long."""
        with (
            tempfile.TemporaryDirectory(prefix="cxr-") as folder,
            ProcessPoolExecutor(1, get_context("spawn"), look_in, (peers_folders(),)) as self.child,
        ):
            say(f"{name} pair: drawing weights, reading {len(self.films)} films with both stages")
            self.folder = Path(folder)
            pixels = decoded(self.films, IMAGE_SIZE)
            self.pair: Pair = self.child.submit(make_pair, name, self.folder / name, pixels, self.precision).result()
            order = self.pair.alternating()
            share = self.pair.at_share(50)
            self.pixels = pixels[order]
            self.forms = {"png": Films([self.films[at] for at in order], self.pair.probabilities[order])}
            for form, convert in (("jpeg", as_jpeg), ("dicom", as_dicom)):
                if any(cell.form == form for cell in cells):
                    films = [convert(film) for film in self.forms["png"].bodies[: self.plan.few]]
                    expected = self.ask(limit.probabilities, share, decoded(films, IMAGE_SIZE))
                    self.forms[form] = Films(films, expected)
            say(f"{name} pair: the limit's engine, batch size, dtype and threads")
            how = self.plan.batches, self.plan.search_seconds, self.plan.engines
            self.limits[name] = self.ask(limit.search, share, self.pixels, *how)
            for share_, group in groupby(cells, lambda cell: cell.share):
                self.run_share(share_, list(group))

    def run_share(self, share: int, cells: list[Cell]) -> None:
        wanted = {name for cell in cells for name in cell.arms}
        with self.servers(share, [arm for name, arm in self.arms.items() if name in wanted]) as up:
            for cell in cells:
                for number in range(cell.rounds):
                    self.run_round(cell, number, up)
            if share == 50:
                try:
                    self.time_single_films(cells, up)
                except Exception as fault:  # what was measured before stands
                    self.failed[f"single films, {self.pair.name}"] = repr(fault)[:500]

    def run_round(self, cell: Cell, number: int, up: dict[str, Arm]) -> None:
        """Every arm's turn, the limit's first."""
        about = {"pair": cell.pair, "share": cell.share, "form": cell.form, "load": cell.load, "round": number}
        if cell.concurrency == 32 and cell.form == "png":
            found, share = self.limits[cell.pair], self.pair.at_share(cell.share)
            settings = {"limit": found["best"], "limit_float32": found["float32"]}
            for name in ["limit"] if found["best"] == found["float32"] else settings:
                seen = self.ask(limit.films_per_second, share, self.pixels, settings[name], cell.seconds)
                self.rows.append({**about, "load": "in process", "arm": name, **seen})
        for name in [name for name in cell.arms if name in up]:
            say(f"{cell.pair}, {cell.share}% routed, {cell.form}, {cell.load}, round {number + 1}: {name}")
            try:
                rate = summary.median_rate(self.rows, cell.pair, cell.share, "png", "closed, 32", name)
                row = measure(up[name], cell, self.forms[cell.form], self.pair.threshold(cell.share), rate)
                self.rows.append({**about, "arm": name, **row})
            except Exception as fault:  # one server's trouble is not the others'
                self.failed[f"{name}, {cell.pair}, {cell.share}%, {cell.form}, {cell.load}"] = repr(fault)[:500]

    def time_single_films(self, cells: list[Cell], up: dict[str, Arm]) -> None:
        """One film at a time, in process and through each server in turns; and step by step."""
        wanted = {name for cell in cells if cell.concurrency == 1 for name in cell.arms}
        arms = {name: arm for name, arm in up.items() if name in wanted}
        if not arms:
            return
        name, share, films = self.pair.name, self.pair.at_share(50), self.forms["png"].bodies[:SINGLE_FILMS]
        alone: list[list[float]] = []
        through: dict[str, list[list[float]]] = {arm: [] for arm in arms}
        steps: list[dict[str, float]] = []
        for turn in range(SINGLE_TURNS):
            say(f"{name} pair: single films, turn {turn + 1} of {SINGLE_TURNS}")
            alone.append(self.ask(limit.single_films, share, films, self.limits[name]["best"].dtype))
            steps.extend(self.ask(limit.parts, share, films[0:8:2]))  # every other one is routed
            for arm in arms:
                through[arm].append(single_films(arms[arm], films))
        self.hop = self.ask(limit.hop_bytes, share, films[:4])
        in_process, medians = summary.by_film(alone), summary.by_step(steps)
        profile: dict[str, Any] = {"limit_single_film_p50_ms": summary.middle(in_process), "steps_ms": medians}
        for arm, turns in through.items():
            took = summary.by_film(turns)
            self.overheads[f"{arm}, {name}"] = [one - other for one, other in zip(took, in_process, strict=True)]
            profile[arm] = summary.way(medians, nothing_to_read(arms[arm], len(films[0])), took[::2])
        self.profile[name] = profile

    @contextmanager
    def servers(self, share: int, arms: list[Arm]) -> Iterator[dict[str, Arm]]:
        """Those that came up, all of them ended afterwards, whatever ends this."""
        up: dict[str, Arm] = {}
        with ExitStack() as stack:  # ends the gateway before its TorchServe
            for arm in arms:
                say(f"{self.pair.name}, {share}% routed: starting {arm.name}")
                stack.callback(self._stop, arm, share)
                try:
                    with redirect_stdout(sys.stderr):  # the output is the document's
                        arm.start(self.pair.at_share(share), self.folder / f"{arm.name}-{share}")
                    up[arm.name] = arm
                except Exception as fault:
                    self.failed[f"{arm.name}, {self.pair.name}, {share}%, start"] = repr(fault)[:800]
            yield up

    def _stop(self, arm: Arm, share: int) -> None:
        try:
            arm.stop()
        except Exception as fault:
            self.failed.setdefault(f"{arm.name}, {self.pair.name}, {share}%, stop", repr(fault)[:800])

    def ask(self, function: Any, *arguments: Any) -> Any:
        """Runs one of the limit's functions in its process."""
        return self.child.submit(function, *arguments).result(timeout=1200)

    def document(self) -> dict[str, Any]:
        return summary.document(
            self.rows,
            self.limits,
            self.profile,
            self.overheads,
            self.hop,
            self.left_out,
            self.failed,
            len(self.films),
            self.precision,
        )


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
