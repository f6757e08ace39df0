"""When the gateway takes films: what the supervisor makes of probes, and of films that fail."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import supervisor as module
from gateway.supervisor import State, Supervisor
from gateway.upstream import Upstream
from handlers.report import Refusal
from tests.gateway.conftest import report_of
from tests.gateway.torchserve_stub import Stub, server_of, started, through
from workflows.active import Active


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    with started(tmp_path) as one:
        yield one


def watched(stub: Stub, work: Callable[[Supervisor], Coroutine[Any, Any, None]], patience: float = 3600) -> None:
    async def run(upstream: Upstream) -> None:
        supervisor = Supervisor(server_of(stub), upstream, Active(stub.folder / "active"), patience)
        watching = asyncio.create_task(supervisor.run())
        await work(supervisor)
        watching.cancel()

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


def test_a_film_that_fails_is_doubted_by_a_probe_and_not_believed_alone(stub: Stub) -> None:
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
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarts: list[int] = []

    async def restart(supervisor: Supervisor) -> None:
        restarts.append(len(stub.films))

    monkeypatch.setattr(Supervisor, "_restart", restart)
    monkeypatch.setattr(module, "RETRY", 0.01)

    async def work(supervisor: Supervisor) -> None:
        await until(lambda: supervisor.ready)
        stub.answer = lambda _: (200, FAULT)
        supervisor.failed()
        await until(lambda: supervisor.state is State.FAILING)
        await until(lambda: len(restarts) > 0)

    watched(stub, work, patience=0.1)


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
        supervisor.saw()  # a client's film comes back meanwhile
        release.set()
        supervisor.failed()
        await until(lambda: len(stub.films) == probes + 2 or bool(seen.append(supervisor.state)))

    watched(stub, work)
    assert set(seen) == {State.READY}
