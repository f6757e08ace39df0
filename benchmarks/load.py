"""Films over HTTP in a closed or an open loop, and what the answers' times say.

The client runs beside the server on the same cores, so it is a thread per connection around ``http.client``: a body
goes out in one system call, and nothing is parsed until the measurement is over.
"""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any

import numpy as np

REQUEST_LIMIT = 20.0
"""Seconds; an answer that takes longer is lost."""
FAILURES_IN_A_ROW = 2
"""After which a connection gives up, so that a dead server does not hold the benchmark."""


@dataclass(frozen=True)
class Target:
    """Where films are posted; ``bodies`` are sent as they are."""

    host: str
    port: int
    path: str
    headers: dict[str, str]
    bodies: Sequence[bytes]


@dataclass(frozen=True)
class Answer:
    """One request: times in seconds of ``time.perf_counter``; ``due`` is when an open loop should have sent it."""

    film: int
    due: float
    done: float
    status: int
    body: bytes

    @property
    def good(self) -> bool:
        return self.status == 200


@dataclass
class Load:
    """What one run of the client saw.

    Attributes:
        concurrency: connections of a closed loop; None for an open one.
        started: when the first film was sent.
        client_seconds: CPU seconds of the client itself.
    """

    concurrency: int | None
    answers: list[Answer] = field(default_factory=list)
    started: float = 0.0
    client_seconds: float = 0.0


def closed_loop(target: Target, concurrency: int, seconds: float, least: int = 0) -> Load:
    """``concurrency`` connections, each of which sends its next film when it has its answer.

    Sends for ``seconds`` and until ``least`` films are out, films in turn; then waits for what is in flight.
    """
    load, numbers = Load(concurrency), itertools.count()

    def next_due() -> tuple[int, float] | None:
        now, number = time.perf_counter(), next(numbers)
        if now - load.started >= seconds and number >= least:
            return None
        return number, now

    return _run(load, target, concurrency, next_due)


def open_loop(target: Target, rate: float, seconds: float, connections: int = 64) -> Load:
    """Films at random times (Poisson, the same for every server), ``rate`` a second, whatever the server does.

    Latency counts from when a film was due, so a server that makes the client wait does not hide it.
    """
    load = Load(None)
    gaps = np.random.default_rng(0).exponential(1.0 / rate, max(4, round(rate * seconds)))
    schedule = iter(enumerate(np.cumsum(gaps).tolist()))
    turn = threading.Lock()

    def next_due() -> tuple[int, float] | None:
        with turn:
            number, after = next(schedule, (-1, 0.0))
        if number < 0:
            return None
        due = load.started + after
        time.sleep(max(0.0, due - time.perf_counter()))
        return number, due

    return _run(load, target, connections, next_due)


def _run(load: Load, target: Target, connections: int, next_due: Callable[[], tuple[int, float] | None]) -> Load:
    threads = [threading.Thread(target=_send, args=(load, target, next_due), daemon=True) for _ in range(connections)]
    spent = time.process_time()
    load.started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.client_seconds = time.process_time() - spent
    return load


def _send(load: Load, target: Target, next_due: Callable[[], tuple[int, float] | None]) -> None:
    connection = HTTPConnection(target.host, target.port, timeout=REQUEST_LIMIT)
    failures = 0
    while failures < FAILURES_IN_A_ROW and (ticket := next_due()) is not None:
        number, due = ticket
        film = number % len(target.bodies)
        try:
            connection.request("POST", target.path, target.bodies[film], target.headers)
            response = connection.getresponse()
            status, body = response.status, response.read()
        except (OSError, HTTPException) as fault:  # a server may close an idle connection, or be gone
            connection.close()
            status, body = 0, repr(fault).encode()
        failures = 0 if 200 <= status < 500 else failures + 1  # a refused film is an answer
        load.answers.append(Answer(film, due, time.perf_counter(), status, body))
    connection.close()


def films_per_second(load: Load) -> float:
    """Answered films over the time from the first one's sending to the last one's answer.

    The ramps at both ends are in it, which is against the servers and for none of them; a slope through the middle of
    four or five batches, which leaves them out, is good to a third only.
    """
    done = [answer.done for answer in load.answers if answer.good]
    return len(done) / (max(done) - load.started) if done else 0.0


def latencies(load: Load) -> dict[str, float]:
    """p50, p95 and p99 of the answered films, in milliseconds."""
    good = [1000.0 * (answer.done - answer.due) for answer in load.answers if answer.good]
    return {f"p{at}_ms": float(np.percentile(good, at)) if good else float("nan") for at in (50, 95, 99)}


def by_film(load: Load) -> dict[int, float]:
    """Each film's median latency in milliseconds."""
    seen: dict[int, list[float]] = {}
    for answer in load.answers:
        if answer.good:
            seen.setdefault(answer.film, []).append(1000.0 * (answer.done - answer.due))
    return {film: float(np.median(times)) for film, times in seen.items()}


def failures(load: Load) -> dict[str, Any]:
    """How many requests were not answered, and the first of them in its own words."""
    bad = [answer for answer in load.answers if not answer.good]
    if not bad:
        return {"lost": 0}
    return {"lost": len(bad), "first": f"HTTP {bad[0].status}: {bad[0].body[:200].decode(errors='replace')}"}
