"""At 80% of what the service can read, hour after hour: nothing grows.

A minute in the tests; ``make soak`` sets SOAK_SECONDS to a quarter of an hour.
"""

import os
from collections import Counter
from statistics import median

import pytest

from tests.gateway.conftest import Gateway
from tests.live.clients import Load
from tests.live.footprint import fill_heap, footprint
from workflows.server import Server

SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
WARM_UP = 15.0
"""Seconds at full load, which also show what full load is."""
SHARE = 0.8
CLIENTS = 48
ENOUGH = 0.5
"""Of the load that was meant, for a leak to show: beside other work the service has less of the cores than it had while
the full load was measured."""


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 600)
def test_nothing_grows(gateway: Gateway, server: Server, films: list[bytes]) -> None:
    fill_heap(gateway)
    with Load(gateway, films, CLIENTS) as load:
        load.go_on(WARM_UP)
    rate = SHARE * load.reports_a_second()
    warm = footprint(server, gateway)
    with Load(gateway, films, CLIENTS, rate) as load:
        load.go_on(SECONDS)
    after = footprint(server, gateway)

    refused = Counter(answer.problem for answer in load.answers if answer.status != 200)
    seconds = [answer.seconds for answer in load.answers if answer.status == 200]
    print(f"\n{rate:.1f} films a second for {SECONDS:g} s: {len(seconds)} read, refused {dict(refused)}")
    print(f"median {median(seconds) * 1000:.0f} ms, slowest {max(seconds):.2f} s\nbefore {warm}\nafter  {after}")
    assert set(refused) <= {"QueueFull", "Busy"}
    assert len(seconds) > ENOUGH * rate * SECONDS
    assert after.growth(warm) == []
