"""One arm's turn in one condition: films sent, processes watched, answers compared."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks import load
from benchmarks.arms.arm import Arm
from benchmarks.plan import Cell

OPEN_SHARE = 0.8
"""Of the closed loop's rate, in the open loop."""
EMPTY_FILMS = 12


@dataclass(frozen=True)
class Films:
    """Attributes:
    bodies: the files.
    expected: [N, 15], the limit's float32 probabilities, stage 2 run on every film.
    """

    bodies: list[bytes]
    expected: NDArray[np.float32]


def measure(arm: Arm, cell: Cell, films: Films, threshold: float, capacity: float | None) -> dict[str, Any]:
    """One run of the client against the arm, as a row of the results.

    Raises:
        RuntimeError: no film was answered, or an open loop is wanted and the arm's capacity is not known.
    """
    target = arm.target(films.bodies)
    counts, spent = arm.counts(), cpu_seconds(arm)
    if cell.concurrency is not None:
        seen = load.closed_loop(target, cell.concurrency, cell.seconds, least=cell.concurrency)
    elif capacity:
        seen = load.open_loop(target, OPEN_SHARE * capacity, cell.seconds)
    else:
        raise RuntimeError("its capacity is not known")
    number = sum(answer.good for answer in seen.answers)
    if not number:
        raise RuntimeError(f"no film was answered: {load.failures(seen)}")
    spent, memory = cpu_seconds(arm) - spent, memory_of(arm)
    ran = {name: after - counts[name] for name, after in arm.counts().items()}
    row: dict[str, Any] = {"films": number, "films_per_second": load.films_per_second(seen), **load.latencies(seen)}
    if cell.concurrency is None and capacity:
        row["offered_films_per_second"] = OPEN_SHARE * capacity
    row |= {"cpu_seconds_per_film": spent / number, "client_cpu_seconds_per_film": seen.client_seconds / number}
    row |= memory | load.failures(seen)
    for stage in ("binary", "disease"):
        batches = ran[f"{stage}_batches"]
        row[f"mean_{stage}_batch"] = ran[f"{stage}_films"] / batches if batches else 0.0
    row["disease_runs_per_film"] = ran["disease_films"] / number
    row |= compare(arm, seen, films.expected, threshold)
    return row


def compare(arm: Arm, seen: load.Load, expected: NDArray[np.float32], threshold: float) -> dict[str, float]:
    """The largest difference of a probability from the limit's, and how many films went the other way at the gate."""
    difference, strayed = 0.0, 0
    for film, body in {answer.film: answer.body for answer in seen.answers if answer.good}.items():
        answer, wanted = np.array(arm.probabilities(body)), expected[film]
        difference = max(difference, abs(float(answer[0] - wanted[0])))
        routed = wanted[0] >= threshold
        if bool(answer[1:].any()) != bool(routed):
            strayed += 1
        elif routed:
            difference = max(difference, float(np.abs(answer[1:] - wanted[1:]).max()))
    return {"largest_difference": difference, "films_routed_differently": strayed}


def single_films(arm: Arm, films: list[bytes]) -> list[float]:
    """Milliseconds from a film's sending to its answer, one film at a time.

    Raises:
        RuntimeError: a film was not answered.
    """
    seen = load.closed_loop(arm.target(films), 1, 0.0, least=len(films))
    if any(not answer.good for answer in seen.answers):
        raise RuntimeError(f"not every film was answered: {load.failures(seen)}")
    times = load.by_film(seen)
    return [times[number] for number in range(len(films))]


def nothing_to_read(arm: Arm, size: int) -> float:
    """p50 in milliseconds of a body of this size that is no film: HTTP, both queues, hop and reply, nothing read."""
    target = replace(arm.target([]), bodies=[b"\0" * size])
    seen = load.closed_loop(target, 1, 0.0, least=EMPTY_FILMS)
    times = [1000.0 * (answer.done - answer.due) for answer in seen.answers if answer.status in (200, 400, 415, 422)]
    return float(np.median(times)) if times else float("nan")


def cpu_seconds(arm: Arm) -> float:
    """Of all its processes that live, user and system; the client is none of them."""
    total = 0.0
    for process in arm.processes():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def memory_of(arm: Arm) -> dict[str, float]:
    """MiB over its processes: the sum of their resident peaks since the start, and what is each one's alone now."""
    peak = own = 0
    for process in arm.processes():
        try:
            own += process.memory_full_info().uss
            with open(f"/proc/{process.pid}/status") as status:
                peak += next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        except (psutil.Error, OSError, StopIteration):
            continue
    return {"peak_rss_mib": peak / 2**10, "uss_mib": own / 2**20}
