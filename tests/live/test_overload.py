"""Five times as many films as the service can read: it reads as many as before, and refuses the others in time."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from statistics import mean, median

import pytest
from PIL import Image

from gateway.settings import Settings
from tests.gateway.conftest import Gateway
from tests.live.clients import Answer, Load, in_turn
from tests.live.footprint import Footprint, cpu_seconds, fill_heap, footprint
from tests.live.mutants import saved
from tests.service import live_gateway
from workflows.server import Server

TIMES = 5
ROUNDS, SATURATED, OVERLOADED = 3, 8.0, 12.0
"""Seconds of each kind of load. They take turns, so that whatever else the machine does is in both."""
SLOTS = 32
"""Films in flight, and as many that wait: both nodes' batches."""
SATURATING, CROWD = SLOTS - 4, 3 * SLOTS
"""Clients: fewer than may be in flight, and more than are admitted."""
SIDE = 6000
"""px of the films: reading one is work, as it is with models of full size, so that refusing one is cheap beside it."""
GOODPUT = 0.9
"""Of the films that are read in a second of the service's CPU time. The clock shows what else the machine does, too; by
it the margin is wider."""
GOODPUT_BY_THE_CLOCK = 0.6
COST = 1.5
"""Of a film that is read alone, after all that over before."""
REFUSED_LATE = 1.0
"""Seconds beyond the bounded wait."""


@pytest.fixture(scope="module")
def gateway(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with live_gateway(server, tmp_path_factory.mktemp("gateway"), max_in_flight=SLOTS, max_waiting=SLOTS) as one:
        yield one


@pytest.fixture(scope="module")
def large_films(films: list[bytes]) -> list[bytes]:
    drawn = [Image.open(BytesIO(film)).convert("L").resize((SIDE, SIDE)) for film in films[:8]]
    return [saved(film, "JPEG", quality=30, progressive=True) for film in drawn]


@dataclass
class Seen:
    """Rounds of one kind of load."""

    answers: list[Answer] = field(default_factory=list)
    by_the_clock: list[float] = field(default_factory=list)
    by_cpu: list[float] = field(default_factory=list)


@pytest.mark.slow
def test_goodput_stays_and_the_rest_is_refused_in_time(
    gateway: Gateway, server: Server, large_films: list[bytes]
) -> None:
    def send(seen: Seen, clients: int, seconds: float, rate: float | None) -> None:
        used = cpu_seconds(server, gateway)
        with Load(gateway, large_films, clients, rate) as load:
            load.go_on(seconds)
        used = cpu_seconds(server, gateway) - used
        seen.answers += load.answers
        seen.by_the_clock.append(load.reports_a_second())
        seen.by_cpu.append(sum(answer.status == 200 for answer in load.answers) / used)

    saturated, overloaded, footprints = Seen(), Seen(), list[Footprint]()
    fill_heap(gateway)
    before = cpu_alone(server, gateway, large_films)
    for _ in range(ROUNDS):
        send(saturated, SATURATING, SATURATED, None)
        send(overloaded, CROWD, OVERLOADED, rate=TIMES * mean(saturated.by_the_clock))
        footprints.append(footprint(server, gateway))
    after = cpu_alone(server, gateway, large_films)

    refused = [answer for answer in overloaded.answers if answer.status != 200]
    kinds = Counter((answer.status, answer.problem) for answer in refused)
    for what, seen in (("saturated", saturated), ("overloaded", overloaded)):
        print(f"{what}: films a second {rounded(seen.by_the_clock)}, a second of CPU {rounded(seen.by_cpu)}")
    print(f"{len(overloaded.answers)} sent, refused {dict(kinds)}, latest {max(a.seconds for a in refused):.2f} s")
    print(f"s of CPU alone: before {rounded(before)}, after {rounded(after)}\n{footprints[0]}\n{footprints[-1]}")
    assert {answer.status for answer in saturated.answers} == {200}
    assert set(kinds) <= {(429, "QueueFull"), (503, "Busy")}
    assert all(answer.headers["Retry-After"] for answer in refused)
    assert max(answer.seconds for answer in refused) < Settings().max_wait + REFUSED_LATE
    assert footprints[-1].growth(footprints[0]) == []
    assert mean(overloaded.by_cpu) > GOODPUT * mean(saturated.by_cpu)
    assert mean(overloaded.by_the_clock) > GOODPUT_BY_THE_CLOCK * mean(saturated.by_the_clock)
    assert min(after) < COST * median(before)


def cpu_alone(server: Server, gateway: Gateway, films: list[bytes]) -> list[float]:
    """Processor seconds of a film that is read alone, three times over: other work hardly stretches them."""
    used = [cpu_seconds(server, gateway)]
    for _ in range(3):
        in_turn(gateway, films, clients=1)
        used.append(cpu_seconds(server, gateway))
    return [(later - earlier) / len(films) for earlier, later in pairwise(used)]


def rounded(figures: list[float]) -> list[float]:
    return [round(figure, 3) for figure in figures]
