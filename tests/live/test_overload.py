"""Five times as many films as the service can read: it reads as many as before, and refuses the others in time."""

from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from statistics import mean, median

import pytest
from PIL import Image

from gateway.settings import Settings
from tests.gateway.conftest import Gateway
from tests.live.clients import Answer, Load, in_turn
from tests.live.conftest import live_gateway
from tests.live.footprint import footprint
from tests.live.mutants import saved
from workflows.server import Server

TIMES = 5
ROUNDS, SATURATED, OVERLOADED = 3, 8.0, 20.0
"""Seconds of each kind of window. They take turns, so that whatever else the machine does is in both."""
RAMP = 2.0
"""Seconds until a window shows its rate."""
PLACES = 32
"""With TorchServe, and as many in line: both nodes' batches."""
SATURATING, CROWD = PLACES - 4, 3 * PLACES
"""Clients: fewer than there are places, and more than there are seats."""
SIDE = 3000
"""px of the films: reading one is work, as it is with models of full size, so that refusing one is cheap beside it."""
GOODPUT = 0.9
LATENCY = 1.5
REFUSED_LATE = 1.0
"""Seconds beyond the bounded wait."""


@pytest.fixture(scope="module")
def gateway(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with live_gateway(server, tmp_path_factory.mktemp("gateway"), places=PLACES, waiting=PLACES) as one:
        yield one


@pytest.fixture(scope="module")
def large_films(films: list[bytes]) -> list[bytes]:
    drawn = [Image.open(BytesIO(film)).convert("L").resize((SIDE, SIDE)) for film in films[:8]]
    return [saved(film, "JPEG", quality=50, progressive=True) for film in drawn]


def test_goodput_stays_and_the_rest_is_refused_in_time(
    gateway: Gateway, server: Server, large_films: list[bytes]
) -> None:
    seconds_before = seconds_alone(gateway, large_films)
    saturated, overloaded, answers = list[float](), list[float](), list[Answer]()
    warm = None
    for _ in range(ROUNDS):
        with Load(gateway, large_films, SATURATING) as load:
            load.go_on(SATURATED)
        saturated.append(load.reports_a_second(RAMP))
        with Load(gateway, large_films, CROWD, rate=TIMES * mean(saturated)) as load:
            load.go_on(OVERLOADED)
        overloaded.append(load.reports_a_second(RAMP))
        answers += load.answers
        warm = warm or footprint(server, gateway)
    after = footprint(server, gateway)
    seconds_after = seconds_alone(gateway, large_films)

    refused = [answer for answer in answers if answer.status != 200]
    kinds = Counter((answer.status, answer.problem) for answer in refused)
    print(f"\nsaturated {saturated}, overloaded {overloaded} films a second")
    print(f"{len(answers)} sent, refused {dict(kinds)}, slowest refusal {max(a.seconds for a in refused):.2f} s")
    print(f"alone {seconds_before * 1000:.0f} ms before, {seconds_after * 1000:.0f} ms after\n{warm}\n{after}")
    assert set(kinds) <= {(429, "QueueFull"), (503, "Busy")}
    assert all(answer.headers["Retry-After"] for answer in refused)
    assert max(answer.seconds for answer in refused) < Settings().wait + REFUSED_LATE
    assert after.growth(warm) == []
    assert mean(overloaded) > GOODPUT * mean(saturated)
    assert seconds_after < LATENCY * seconds_before


def seconds_alone(gateway: Gateway, films: list[bytes]) -> float:
    """The median of one film at a time."""
    return median(answer.seconds for answer in in_turn(gateway, films * 3, clients=1))
