"""When the gateway takes films: what the supervisor makes of probes, and of films that fail.

How it starts and ends TorchServe: ``test_child.py``.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import supervisor as module
from gateway.supervisor import State, Supervisor
from gateway.upstream import Upstream
from handlers.report import Refusal
from tests.gateway.stand_in import report_of
from tests.gateway.torchserve_stub import Stub, server_of, started, through
from workflows.active import Active
from workflows.server import ServerError


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    with started(tmp_path) as one:
        yield one


def watched(stub: Stub, work: Callable[[Supervisor], Coroutine[Any, Any, None]], restart_after: float = 3600) -> None:
    async def run(upstream: Upstream) -> None:
        supervisor = Supervisor(server_of(stub), upstream, Active(stub.folder / "active"), restart_after)
        watching = asyncio.create_task(supervisor.run())
        await work(supervisor)
        watching.cancel()
        await asyncio.wait({watching})

    through(stub, run)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


def test_ready_only_after_a_film_has_gone_through(stub: Stub) -> None:
    release = threading.Event()

    def slow(_: bytes) -> tuple[int, str]:
        release.wait()
        return 200, report_of(0.1).model_dump_json()

    stub.answer = slow

    async def work(supervisor: Supervisor) -> None:
        await until(lambda: len(stub.films) == 1)
        assert (supervisor.ready, supervisor.state) == (False, State.STARTING)
        release.set()
        await until(lambda: supervisor.ready)

    watched(stub, work)


def test_a_film_that_fails_makes_a_probe_go_out_and_is_not_believed_alone(stub: Stub) -> None:
    async def work(supervisor: Supervisor) -> None:
        await until(lambda: supervisor.ready)
        probes = len(stub.films)
        supervisor.failed()
        await until(lambda: len(stub.films) == probes + 1)
        assert supervisor.ready

    watched(stub, work)


def test_not_ready_while_probes_fail_and_ready_again_after(stub: Stub) -> None:
    async def work(supervisor: Supervisor) -> None:
        await until(lambda: supervisor.ready)
        good, stub.answer = stub.answer, lambda _: (500, "a worker died")
        supervisor.failed()
        await until(lambda: supervisor.state is State.FAILING)
        stub.answer = good
        await until(lambda: supervisor.ready)

    watched(stub, work)


FAULT = Refusal.because(500, "InternalError", "a fault").model_dump_json()


def test_a_worker_that_answers_each_film_with_a_fault_is_not_ready_and_is_started_again(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    starts: list[int] = []
    monkeypatch.setattr(Supervisor, "_bring_up", lambda _: starts.append(len(stub.films)))
    monkeypatch.setattr(module, "RETRY", 0.01)

    async def work(supervisor: Supervisor) -> None:
        await until(lambda: supervisor.ready)
        stub.answer = lambda _: (200, FAULT)
        supervisor.failed()
        await until(lambda: len(starts) > 1)

    watched(stub, work, restart_after=0.1)
    assert "ready -> failing: a probe film is refused: InternalError" in caplog.text


def test_a_probe_that_fails_while_other_films_are_read_is_no_failure(stub: Stub) -> None:
    seen: list[State] = []

    async def work(supervisor: Supervisor) -> None:
        await until(lambda: supervisor.ready)
        probes = len(stub.films)
        release = threading.Event()

        def fail_slowly(_: bytes) -> tuple[int, str]:
            release.wait()
            return 500, "overloaded"

        stub.answer = fail_slowly
        supervisor.failed()
        await until(lambda: len(stub.films) == probes + 1)
        supervisor.succeeded()  # a client's film comes back meanwhile
        release.set()
        supervisor.failed()
        await until(lambda: len(stub.films) == probes + 2 or bool(seen.append(supervisor.state)))

    watched(stub, work)
    assert set(seen) == {State.READY}


def test_starts_that_fail_slowly_come_ever_more_rarely_too(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[float] = []
    ended: list[float] = []

    def fail(_: Supervisor) -> None:
        began.append(time.monotonic())
        time.sleep(0.5)  # longer than any pause
        ended.append(time.monotonic())
        raise ServerError("no Java")

    monkeypatch.setattr(Supervisor, "_bring_up", fail)
    monkeypatch.setattr(module, "RETRY", 0.05)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.3)
    stub.answer = lambda _: (500, "a worker died")

    async def work(_: Supervisor) -> None:
        await until(lambda: len(began) == 5)

    watched(stub, work, restart_after=0)
    pauses = [begin - end for begin, end in zip(began[1:], ended, strict=False)]
    assert [pause >= least for pause, least in zip(pauses, (0.1, 0.2, 0.3, 0.3), strict=True)] == [True] * 4
