"""A process of the service is killed under load: clean refusals, no wrong report, and service returns by itself."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.gateway.conftest import Gateway
from tests.live.clients import Load, distinct, is_report_of, read_alone
from tests.live.footprint import JVM, processes
from tests.service import live_gateway, live_torchserve
from workflows import torchserve
from workflows.server import Server

RETURNS_WITHIN = {"binary worker": 60.0, "disease worker": 60.0, JVM: 120.0}
"""Seconds from the kill until a film that is sent then is read. TorchServe starts a worker again; the gateway, which
finds that nothing listens, TorchServe. Most of it is Python's loading of torch."""
CLIENTS = 12
FILMS_ENOUGH = 20
"""Different ones: a wrong film's report would show."""
CLEAN = {"NotServed": 503, "NotReady": 503, "Busy": 503, "QueueFull": 429, "DeadlinePassed": 504}
ENDS_WITHIN = 30.0


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A TorchServe that may be damaged."""
    with live_torchserve(run, tmp_path_factory.mktemp("killed")) as one:
        yield one


@pytest.fixture(scope="module")
def gateway(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with live_gateway(server, tmp_path_factory.mktemp("gateway")) as one:
        yield one


@pytest.mark.slow
@pytest.mark.parametrize("victim", list(RETURNS_WITHIN))
def test_a_killed_process_costs_refusals_and_no_wrong_report(
    victim: str, gateway: Gateway, server: Server, films: list[bytes]
) -> None:
    gateway.until(lambda: gateway.get("/health/ready").is_success)
    alone = read_alone(gateway, films)
    known = distinct(alone, FILMS_ENOUGH)
    before = torchserve.running(server)

    with Load(gateway, known, CLIENTS) as load:
        load.wait_for_reports(3 * CLIENTS)
        process = processes(server)[victim][0]
        process.kill()
        killed = time.monotonic()
        first = min(answer.done for answer in load.wait_for_reports(1, sent_after=killed))
        load.wait_for_reports(len(known), sent_after=first)
    gateway.until(lambda: gateway.get("/health/ready").is_success)

    reports = [answer for answer in load.answers if answer.status == 200]
    refused = Counter((answer.problem, answer.status) for answer in load.answers if answer.status != 200)
    print(f"\n{victim}: {len(reports)} reports of {len(known)} films, refused {dict(refused)}")
    print(f"service returned after {first - killed:.1f} s, slowest {max(one.seconds for one in load.answers):.1f} s")
    assert [answer for answer in reports if not is_report_of(answer, alone[known[answer.film]])] == []
    assert set(refused) <= set(CLEAN.items())
    assert first - killed < RETURNS_WITHIN[victim]
    assert read_alone(gateway, known) == {film: pytest.approx(alone[film], abs=1e-4) for film in known}
    orphans = before if victim == JVM else [process]
    assert psutil.wait_procs(orphans, ENDS_WITHIN)[1] == []
