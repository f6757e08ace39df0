"""Connections to TorchServe that break: a film goes again where no answer had begun, once, and never where it had."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.upstream import NotServed, Unreachable, Upstream
from handlers.report import Refusal, Report
from tests.gateway.stand_in import report_of
from tests.gateway.torchserve_stub import Cut, Stub, started, through

REPORT = report_of(0.75)
SMALL, LARGE = b"film", bytes(8_000_000)
"""One that fits into the buffers of a connection whole, and one that is still being sent when the connection breaks."""
BEFORE_AN_ANSWER = (Cut.UNREAD, Cut.HEAD, Cut.FILM)


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    with started(tmp_path) as one:
        yield one


async def read(upstream: Upstream, film: bytes = SMALL) -> Report | Refusal:
    return await upstream.read(film, "request-1", "chest_xray", {})


@pytest.mark.parametrize("film", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("cut", BEFORE_AN_ANSWER)
def test_a_film_whose_connection_breaks_before_an_answer_is_sent_again(stub: Stub, cut: Cut, film: bytes) -> None:
    stub.cuts = [cut]
    assert through(stub, lambda upstream: read(upstream, film)) == REPORT
    assert stub.films == [film] * (2 if cut is Cut.FILM else 1)


@pytest.mark.parametrize("film", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("cut", BEFORE_AN_ANSWER)
def test_a_connection_that_was_kept_and_breaks_is_replaced_by_a_new_one(stub: Stub, cut: Cut, film: bytes) -> None:
    async def work(upstream: Upstream) -> list[Report | Refusal]:
        kept = await asyncio.gather(*[read(upstream) for _ in range(10)])
        before = stub.connections
        stub.cuts = [cut]
        again = await read(upstream, film)
        assert stub.connections == before + 1
        return [*kept, again]

    assert through(stub, work) == [REPORT] * 11


@pytest.mark.parametrize("cut", BEFORE_AN_ANSWER)
def test_a_film_is_sent_twice_at_most(stub: Stub, cut: Cut) -> None:
    stub.cuts = [cut, cut]
    with pytest.raises(NotServed, match="the connection to TorchServe broke"):
        through(stub, read)
    assert stub.connections == 2
    assert stub.cuts == []


def test_a_film_whose_answer_breaks_off_is_not_sent_again(stub: Stub) -> None:
    stub.cuts = [Cut.ANSWER]
    with pytest.raises(NotServed, match="the connection to TorchServe broke"):
        through(stub, read)
    assert stub.films == [SMALL]


def test_a_film_with_which_torchserve_ends_is_sent_once(stub: Stub) -> None:
    def end(_: bytes) -> None:
        stub.shutdown()
        stub.server_close()

    stub.answer = end
    with pytest.raises(Unreachable, match="nothing listens"):
        through(stub, read)
    assert stub.films == [SMALL]


def test_a_film_that_is_given_up_is_not_sent_again(stub: Stub) -> None:
    taken, go = threading.Event(), threading.Event()

    def hang_up_late(film: bytes) -> tuple[int, str] | None:
        if film == b"given up":
            taken.set()
            go.wait()
            return None
        return 200, REPORT.model_dump_json()

    stub.answer = hang_up_late

    async def work(upstream: Upstream) -> Report | Refusal:
        reading = asyncio.create_task(read(upstream, b"given up"))
        await asyncio.to_thread(taken.wait)
        reading.cancel()
        go.set()
        return await read(upstream)

    assert through(stub, work) == REPORT
    assert stub.films == [b"given up", SMALL]


@pytest.mark.parametrize("cut", [Cut.UNREAD, Cut.HEAD])
def test_connections_that_break_while_the_token_is_renewed_cost_no_film(stub: Stub, cut: Cut) -> None:
    async def work(upstream: Upstream) -> Report | Refusal:
        await read(upstream)
        stub.token = "another"  # TorchServe's, while the key file still holds the old one
        refused, renewal, film = [[cut, None]] * 3
        stub.cuts = [*refused, *renewal, *film]
        return await read(upstream)

    assert through(stub, work) == REPORT
    assert stub.cuts == []
    assert stub.renewals == 1
    assert stub.films == [SMALL] * 2
