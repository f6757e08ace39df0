"""The tables of deploy/SCALE.md, computed from what ``benchmarks.serving`` measured.

    python -m benchmarks.scale                                    # what the page holds
    python -m benchmarks.scale --core-hour 0.03 --gpu-hour 2.5    # with your own prices

Prints Markdown. A figure that was measured is marked (m); all others are computed from those by the formulas of the
page.
"""

import argparse
import json
from dataclasses import dataclass
from math import ceil, inf
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.training import PEAK_BF16, VIT_B_16, matrix_products
from training.fit.config import ModelConfig

SERVING = Path(__file__).parent / "results" / "serving.json"
FILMS_A_DAY = (10**5, 10**6, 10**7)
DAY = 86_400
PEAK, BUSY = 3.0, 0.7
"""The busiest hour over the day's mean, and how busy a machine may be in it: assumed."""
MACHINE_CORES, GPU_MACHINE_CORES = 32, 16
GPU_EFFICIENCY = 0.3
"""Share of the published peak that the networks reach: assumed."""
GPUS = ("L4", "H100")
CORE_HOUR, GPU_HOUR = 0.04, 2.0
"""Example prices: of a core, and of a machine with one GPU."""
PNG_MB, DICOM_MB = 0.4, 8.0
"""NIH's films of 1024 px take 398 kB (measured, RESULTS.md); a detector's of 2000 px, uncompressed, 8 MB."""
ROUTED = (0, 20, 50, 100)


@dataclass(frozen=True)
class Measured:
    """What the page rests on, of one run on one machine.

    Attributes:
        cores: of the machine.
        rows: the run's conditions.
        decode: seconds of a core for one film's decoding.
        hop: bytes between the two nodes, of a routed and an unrouted film.
    """

    cores: int
    rows: list[dict[str, Any]]
    decode: float
    hop: dict[str, int]

    def of(self, pair: str, arm: str, share: int = 50, form: str = "png") -> dict[str, Any]:
        """The condition with 32 films in flight, or in process."""
        loads = ("closed, 32", "in process")
        return next(
            row
            for row in self.rows
            if (row["pair"], row["arm"], row["share"], row["form"]) == (pair, arm, share, form) and row["load"] in loads
        )

    def core_seconds(self, *which: Any) -> float:
        """Of one film, idle moments included."""
        return self.cores / float(self.of(*which)["films_per_second"])

    def beside_networks(self) -> float:
        """CPU seconds of one film through the gateway that the networks do not take."""
        served, bare = self.of("small", "ours_gateway"), self.of("small", "limit")
        return float(served["cpu_seconds_per_film"] - bare["cpu_seconds_per_film"])

    def of_gateway(self) -> float:
        """CPU seconds of one film that the gateway adds to the workflow."""
        with_it, without = self.of("small", "ours_gateway"), self.of("small", "ours_workflow")
        return float(with_it["cpu_seconds_per_film"] - without["cpu_seconds_per_film"])


def read(path: Path = SERVING) -> Measured:
    document = json.loads(path.read_text())
    decode = document["profile"]["base"]["steps_ms"]["decode"] / 1000
    return Measured(document["machine"]["cores"], document["conditions"], decode, document["hop_bytes"])


def machines(films_a_day: float, films_a_second: float) -> int:
    """That read a day's films, where one reads so many a second, in the busiest hour."""
    return ceil(films_a_day / DAY * PEAK / (films_a_second * BUSY))


def on_cpus(measured: Measured, core_hour: float) -> str:
    """A row a way to serve: what was measured, the machines for it, and what a million films cost."""
    kinds = {
        "ViT-B pair, bfloat16, PNG, gateway": ("base", "ours_gateway"),
        "the same, DICOM of 8 MB": ("base", "ours_gateway", 50, "dicom"),
        "the same, float32, PNG, workflow": ("base", "ours_float32"),
        "ViT-S pair, bfloat16, PNG, gateway": ("small", "ours_gateway"),
        "ViT-B pair, bfloat16, in process": ("base", "limit"),
    }
    lines = [
        f"| half of the films routed | films/s on {measured.cores} cores (m) | core-seconds a film | "
        + " | ".join(f"{number:,} a day" for number in FILMS_A_DAY)
        + " | a million films |",
        "|---|---|---|" + "---|" * (len(FILMS_A_DAY) + 1),
    ]
    for name, which in kinds.items():
        seconds = measured.core_seconds(*which)
        needed = " | ".join(f"{machines(number, MACHINE_CORES / seconds)}" for number in FILMS_A_DAY)
        rate = measured.of(*which)["films_per_second"]
        lines.append(f"| {name} | {rate:.2f} | {seconds:.3f} | {needed} | {cost(seconds, core_hour):.2f} |")
    return "\n".join(lines)


def by_share(measured: Measured) -> str:
    """Core-seconds of a film by the share that is routed; between the measured shares along straight lines."""
    known = {share: measured.core_seconds("base", "ours_workflow", share) for share in (0, 50, 100)}
    head = " | ".join(f"{share}%{' (m)' if share in known else ''}" for share in ROUTED)
    cells = " | ".join(f"{np.interp(share, list(known), list(known.values())):.3f}" for share in ROUTED)
    return f"| ViT-B pair, bfloat16, workflow: films routed | {head} |\n|---|{'---|' * len(ROUTED)}\n" + (
        f"| core-seconds a film | {cells} |"
    )


def on_gpus(measured: Measured, gpu_hour: float) -> str:
    """Computed alone: what the GPU, the cores beside it and one gateway let through; the least of them counts."""
    lines = [
        f"| one GPU, {GPU_MACHINE_CORES} cores; not measured | networks, films/s | cores, films/s | gateway, films/s | "
        + " | ".join(f"{number:,} a day" for number in FILMS_A_DAY)
        + " | a million films |",
        "|---|---|---|---|" + "---|" * (len(FILMS_A_DAY) + 1),
    ]
    for name in GPUS:
        for way in ("one gateway", "in process"):
            limits = gpu_limits(measured, name, way == "one gateway")
            slowest = min(limits)
            needed = " | ".join(f"{machines(number, slowest)}" for number in FILMS_A_DAY)
            shown = " | ".join("" if limit == inf else f"{limit:,.0f}" for limit in limits)
            lines.append(f"| {name}, {way} | {shown} | {needed} | {1e6 / slowest / BUSY / 3600 * gpu_hour:.2f} |")
    return "\n".join(lines)


def gpu_limits(measured: Measured, name: str, served: bool) -> tuple[float, float, float]:
    """Films a second that the networks, the cores and the gateway let through, half of the films routed."""
    operations = 2 * matrix_products(ModelConfig(sizes=VIT_B_16, image_size=224)) * 1.5
    return (
        GPU_EFFICIENCY * PEAK_BF16[name] / operations,
        GPU_MACHINE_CORES / (measured.beside_networks() if served else measured.decode),
        1 / measured.of_gateway() if served else inf,
    )


def what_is_full(measured: Measured) -> str:
    """Of everything that is no network, what the day's busiest hour takes."""
    mean = [number / DAY for number in FILMS_A_DAY]
    peak = [PEAK * rate for rate in mean]
    hop = (measured.hop["routed"] + measured.hop["unrouted"]) / 2
    rows = {
        "films a second, mean": [f"{rate:.1f}" for rate in mean],
        "films a second, busiest hour": [f"{rate:.1f}" for rate in peak],
        "network, PNG of 0.4 MB, MB/s": [f"{rate * PNG_MB:.1f}" for rate in peak],
        "network, DICOM of 8 MB, MB/s": [f"{rate * DICOM_MB:,.0f}" for rate in peak],
        "gateways, each of one process": [f"{rate * measured.of_gateway():.2f}" for rate in peak],
        "cores that decode PNG": [f"{rate * measured.decode:.1f}" for rate in peak],
        "between a workflow's nodes, MB/s": [f"{rate * hop / 1e6:.2f}" for rate in peak],
        "storage a day, PNG / DICOM, TB": [f"{n * PNG_MB / 1e6:.2f} / {n * DICOM_MB / 1e6:.1f}" for n in FILMS_A_DAY],
        "database, rows a second": [f"{rate:.0f}" for rate in peak],
    }
    head = "| all computed | " + " | ".join(f"{number:,} a day" for number in FILMS_A_DAY) + " |\n"
    lines = [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return head + "|---|" + "---|" * len(FILMS_A_DAY) + "\n" + "\n".join(lines)


def cost(core_seconds: float, core_hour: float) -> float:
    """Of a million films."""
    return 1e6 * core_seconds / BUSY / 3600 * core_hour


def beside(measured: Measured) -> str:
    """What a film costs that no network computes."""
    return "\n".join(
        [
            "| beside the networks | core-milliseconds a film |",
            "|---|---|",
            f"| decoding a PNG of 1024 px (m) | {measured.decode * 1000:.1f} |",
            f"| all of it: decoding, JVM, HTTP, gateway (m) | {measured.beside_networks() * 1000:.1f} |",
            f"| of which the gateway (m) | {measured.of_gateway() * 1000:.1f} |",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--core-hour", type=float, default=CORE_HOUR, help="price of a core for an hour (%(default)s)")
    parser.add_argument("--gpu-hour", type=float, default=GPU_HOUR, help="of a machine with a GPU (%(default)s)")
    chosen, measured = parser.parse_args(), read()
    tables = (by_share(measured), on_gpus(measured, chosen.gpu_hour), beside(measured), what_is_full(measured))
    print("\n\n".join((on_cpus(measured, chosen.core_hour), *tables)))


if __name__ == "__main__":
    main()
