"""Rounds to medians, medians to ratios, and all of it to a document and a table."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.plan import RIVALS

KEYS = ("pair", "share", "form", "load", "arm")
RIGHT = {"float32": 0.02, "bfloat16": 0.2}
"""A peer whose probabilities differ by more than this from float32's answers wrongly, and is no peer; bfloat16 alone
moves those of random weights by up to 0.1."""
WANTED = {
    "ours_over_limit_base": ("at least", 0.85),
    "ours_over_limit_small": ("at least", 0.75),
    "ours_over_limit_tiny": ("at least", 0.70),
    "ours_over_best_peer": ("at least", 1.25),
    "ours_over_best_peer_dicom": ("at least", 1.25),
    "ours_over_torchserve_example": ("at least", 1.5),
    "p50_overhead_ms": ("at most", 10.0),
    "p50_overhead_small_ms": ("at most", 10.0),
    "own_precision_over_float32": ("at least, with AMX", 2.5),
    "gate_gain": ("at least", 1.8),
    "unrouted_hop_bytes": ("under", 1000.0),
}
WORKFLOW_FILE = Path(__file__).parents[1] / "workflows" / "chest_xray.yaml"

Rows = Sequence[dict[str, Any]]


def document(
    rows: Rows,
    limits: dict[str, Any],
    profile: dict[str, Any],
    overheads: dict[str, list[float]],
    hop: dict[str, int],
    left_out: dict[str, str],
    failed: dict[str, str],
    films: int,
    precision: str,
) -> dict[str, Any]:
    """What ``serving.json`` holds below the machine's description."""
    summed = medians(rows)
    found = {
        pair: {
            **{name: asdict(of[name]) | {"streams": of[name].streams} for name in ("best", "float32")},
            "bfloat16_difference": of["bfloat16_difference"],
            "engines": of["engines"],
            "tried": of["tried"],
        }
        for pair, of in limits.items()
    }
    ratios = {name: value and _rounded(value) for name, value in ratios_of(summed, overheads, hop, precision).items()}
    return {
        "films": films,
        "served_precision": precision,
        "ratios": ratios,
        "overhead_ms": {name: _rounded(middle(of)) for name, of in overheads.items()},
        "hop_bytes": hop,
        "left_out": left_out,
        "failed": failed,
        "limit": found,
        "profile": profile,
        "conditions": [_rounded(row) for row in summed],
    }


def medians(rows: Rows) -> list[dict[str, Any]]:
    """One row a condition and arm: every number the median over its rounds, and the rounds' rates beside it."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in KEYS), []).append(row)
    summed = []
    for key, of in groups.items():
        numbers = [name for name, value in of[0].items() if isinstance(value, int | float) and name not in KEYS]
        row = dict(zip(KEYS, key, strict=True)) | {
            name: statistics.median(one[name] for one in of) for name in numbers if name != "round"
        }
        row["largest_difference"] = max(one.get("largest_difference", 0.0) for one in of)
        row["rounds"] = [one["films_per_second"] for one in of]
        summed.append(row)
    return summed


def median_rate(rows: Rows, pair: str, share: int, form: str, load: str, arm: str) -> float | None:
    """Films per second of one condition and arm; None where it was not measured."""
    wanted = (pair, share, form, load, arm)
    rates = [row["films_per_second"] for row in rows if tuple(row[key] for key in KEYS) == wanted]
    return statistics.median(rates) if rates else None


def ratios_of(
    summed: Rows, overheads: dict[str, list[float]], hop: dict[str, int], precision: str
) -> dict[str, float | None]:
    """The table's rows; None where the run does not hold what a row needs: of a ratio to the best peer, all of them."""

    def rate(pair: str, arm: str, share: int = 50, form: str = "png") -> float | None:
        load = "in process" if arm.startswith("limit") else "closed, 32"
        return median_rate(summed, pair, share, form, load, arm)

    wrong = {row["arm"] for row in summed if row["largest_difference"] > RIGHT[precision]}

    def over_best_peer(arm: str, pair: str, form: str) -> float | None:
        peers = [found for peer in RIVALS if peer not in wrong and (found := rate(pair, peer, form=form))]
        return _over(rate(pair, arm, form=form), max(peers)) if len(peers) == len(RIVALS) else None

    def overhead(pair: str) -> float | None:
        seen = overheads.get(f"ours_workflow, {pair}")
        return middle(seen) if seen else None

    ours = rate("base", "ours_workflow")
    return {
        **{
            f"ours_over_limit_{pair}": _over(rate(pair, "ours_workflow"), rate(pair, "limit"))
            for pair in ("base", "small", "tiny")
        },
        "ours_over_best_peer": over_best_peer("ours_workflow", "base", "png"),
        "ours_over_best_peer_dicom": over_best_peer("ours_gateway", "base", "dicom"),
        "ours_over_torchserve_example": _over(ours, rate("base", "torchserve_example")),
        "p50_overhead_ms": overhead("base"),
        "p50_overhead_small_ms": overhead("small"),
        "own_precision_over_float32": _over(ours, rate("base", "ours_float32")) if precision != "float32" else None,
        "gate_gain": _over(rate("base", "ours_workflow", 0), rate("base", "ours_workflow", 100)),
        "unrouted_hop_bytes": hop.get("unrouted"),
    }


def by_film(turns: Sequence[Sequence[float]]) -> list[float]:
    """[turns, films] -> [films]: medians."""
    return [statistics.median(of) for of in zip(*turns, strict=True)]


def by_step(ways: Sequence[dict[str, float]]) -> dict[str, float]:
    """Each step's median over the films' ways."""
    return {name: statistics.median(way[name] for way in ways) for name in ways[0]}


def way(steps: dict[str, float], empty: float, took: Sequence[float]) -> dict[str, float]:
    """A routed film's way in milliseconds at one film in flight.

    Measured: the whole (p50 through the server), the steps in process, and the way of a body that is no film. Of that
    way the configured batch delays of both nodes are queue; what is left of it, less hop and reply, is HTTP and
    TorchServe. ``remainder`` is the whole less all of these.
    """
    delays = 2.0 * yaml.safe_load(WORKFLOW_FILE.read_text())["models"]["max-batch-delay"]
    whole = middle(took)
    http = max(0.0, empty - delays - steps["hop"] - steps["reply"])
    known = {"http": http, "queue": min(delays, empty), **steps}
    return {"whole": whole, **known, "remainder": whole - sum(known.values())}


def middle(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def print_tables(document: dict[str, Any]) -> None:
    """The conditions, a film's way, and the ratios beside what is wanted of them."""
    console = Console(width=None if Console().is_terminal else 150)
    table = Table(title="Served films" + (" (quick run)" if document["quick"] else ""), title_justify="left")
    heads = (
        "condition",
        "arm",
        "films/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "CPU s/film",
        "peak MiB",
        "batch 1",
        "batch 2",
    )
    for head in (*heads, "stage 2/film", "max diff", "lost"):
        table.add_column(head, justify="left" if head in heads[:2] else "right", no_wrap=head == "arm")
    columns = ("films_per_second", "p50_ms", "p95_ms", "p99_ms", "cpu_seconds_per_film", "peak_rss_mib")
    columns += ("mean_binary_batch", "mean_disease_batch", "disease_runs_per_film", "largest_difference", "lost")
    for row in document["conditions"]:
        condition = f"{row['pair']}, {row['share']}%, {row['form']}, {row['load']}"
        table.add_row(condition, row["arm"], *(f"{row[name]:.4g}" if name in row else "" for name in columns))
    console.print(table)
    for pair, profile in document["profile"].items():
        for arm in [name for name in profile if name.startswith("ours")]:
            parts = ", ".join(f"{name} {value:.1f}" for name, value in profile[arm].items())
            console.print(f"{pair}, {arm}, a routed film's way in ms: {parts}", highlight=False)
    reach = Table(title="Reach", title_justify="left")
    for head in ("ratio", "wanted", "measured"):
        reach.add_column(head, justify="left" if head == "ratio" else "right")
    for name, (how, bound) in WANTED.items():
        value = document["ratios"][name]
        reach.add_row(name, f"{how} {bound:g}", "not in this run" if value is None else f"{value:.4g}")
    console.print(reach)
    for what in ("left_out", "failed"):
        for name, why in document[what].items():
            console.print(f"{what.replace('_', ' ')}: {name}: {why}", highlight=False, markup=False)


def _over(one: float | None, other: float | None) -> float | None:
    return one / other if one and other else None


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(of) for name, of in value.items()}
    if isinstance(value, list):
        return [_rounded(of) for of in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
