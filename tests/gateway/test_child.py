"""TorchServe as the gateway's child: started, started again as it was, and ended. Its Java is a script here; with the
real one: ``tests/live/test_supervisor.py``.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import psutil
import pytest

from benchmarks.arms.torchserve import configure
from gateway import supervisor as module
from gateway.supervisor import State, Supervisor
from gateway.upstream import Upstream
from tests.gateway.stand_in import report_of
from tests.gateway.torchserve_stub import lost
from tests.workflows.fake_java import JVM, make_java
from workflows import jvm, store, torchserve
from workflows.active import Active
from workflows.server import Server
from workflows.sums import place

READS = f"""
class Reads(Answer):
    def do_POST(self):
        body = {report_of(0.1).model_dump_json()!r}.encode()
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

Path("models").open("a").write(Path("model_store/live/binary.mar").read_text() + "\\n")
one = listen()
one.RequestHandlerClass = Reads
"""
"""What its Java does: it notes which model it would serve, and answers every film with a report."""
SERVES = f"{READS}one.serve_forever()"
NEVER_UP = "time.sleep(3600)"
NAMES = store.archives_of("chest_xray")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    configure(folder)
    (folder / "behaviour").write_text(SERVES)
    monkeypatch.setattr("workflows.dag_executor.install", lambda _: None)
    monkeypatch.setattr(module, "RETRY", 0.05)
    one = Server.of_folder(folder)
    pack(one, "first")
    with patch.dict(os.environ, JAVA_HOME=str(make_java(tmp_path / "java"))):
        yield one
    torchserve.end(one)


def pack(server: Server, model: str) -> None:
    """As 'make archive' does."""
    made = server.folder / "made"
    made.mkdir(exist_ok=True)
    for name in NAMES:
        (made / name).write_text(model)
    place([made / name for name in NAMES], server.store.parent)


def models(server: Server) -> list[str]:
    """The model that each TorchServe was started on, in order."""
    path = server.folder / "models"
    return path.read_text().split() if path.exists() else []


@asynccontextmanager
async def supervised(server: Server, restart_after: float = 3600) -> AsyncIterator[Supervisor]:
    """A gateway's supervisor; it has ended what it started when the block has ended."""
    upstream = Upstream(server, 64, lost())
    one = Supervisor(server, upstream, Active.of(server), restart_after)
    watching = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        await upstream.aclose()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def the_jvm(server: Server) -> psutil.Process:
    (one,) = jvm.of_folder(server.folder)
    return one


def test_it_is_started_on_what_is_packed_and_ended_with_the_gateway(server: Server) -> None:
    async def work() -> None:
        async with supervised(server) as one:
            assert (one.ready, one.state) == (False, State.STARTING)
            await until(lambda: one.ready)
            assert models(server) == ["first"]

    asyncio.run(work())
    assert torchserve.running(server) == []


def test_a_killed_one_is_started_again_without_a_film_as_it_was_whatever_is_packed_meanwhile(server: Server) -> None:
    async def work() -> None:
        async with supervised(server) as one:
            await until(lambda: one.ready)
            pack(server, "second")
            the_jvm(server).kill()
            await until(lambda: models(server) == ["first", "first"])
            await until(lambda: one.ready)
        async with supervised(server) as one:
            await until(lambda: one.ready)

    asyncio.run(work())
    assert models(server) == ["first", "first", "second"]


def test_a_damaged_pair_is_refused_at_a_start_and_the_old_one_goes_on(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        async with supervised(server) as one:
            await until(lambda: one.ready)
        pack(server, "second")
        (server.store.parent / "binary.mar").write_text("damaged")
        async with supervised(server) as one:
            await until(lambda: one.ready)

    asyncio.run(work())
    assert models(server) == ["first", "first"]
    assert "binary.mar is not the file that 'make archive' wrote" in caplog.text


@pytest.mark.parametrize("behaviour", [NEVER_UP, READS + NEVER_UP, SERVES])
def test_a_gateway_that_is_ended_while_it_starts_torchserve_leaves_none(server: Server, behaviour: str) -> None:
    (server.folder / "behaviour").write_text(behaviour)

    async def work() -> None:
        async with supervised(server):
            await until(lambda: bool(jvm.of_folder(server.folder)))
            children.extend([*set(psutil.Process().children()).difference(others), the_jvm(server)])

    others = psutil.Process().children()  # of other tests
    children: list[psutil.Process] = []
    asyncio.run(work())
    assert len(children) > 1
    assert not any(map(jvm.runs, children))


@pytest.mark.slow
def test_two_gateways_share_one_and_the_second_starts_its_own_when_that_is_gone(server: Server) -> None:
    async def work() -> None:
        async with supervised(server) as second:
            async with supervised(server) as first:
                await until(lambda: first.ready and second.ready)
                assert models(server) == ["first"]
                owner, other = (first, second) if first._child else (second, first)
                assert other._child is None
            await until(lambda: second.ready and second._child is not None and server.alive())
            assert models(server) == ["first"] * (1 if owner is second else 2)

    asyncio.run(work())
    assert torchserve.running(server) == []


def test_one_that_was_started_by_hand_is_used_and_left_alone(server: Server) -> None:
    store.deploy(server)
    program = [sys.executable, "-c", JVM, jvm.MAIN_CLASS]
    by_hand = subprocess.Popen(program, cwd=server.folder)

    async def work() -> None:
        torchserve.wait_until_up(server)
        pack(server, "first")  # the same
        async with supervised(server) as one:
            await until(lambda: one.ready)
            assert one._child is None

    asyncio.run(work())
    assert by_hand.poll() is None
    assert models(server) == ["first"]
    by_hand.kill()
    by_hand.wait()


def test_what_the_killed_child_of_a_gateway_left_is_not_taken_for_another_gateway_s(server: Server) -> None:
    store.deploy(server)
    left = torchserve.start(server)
    old = the_jvm(server)
    left.kill()
    left.wait()

    async def work() -> None:
        async with supervised(server) as one:
            await until(lambda: one.ready)
            assert one._child is not None

    asyncio.run(work())
    assert not jvm.runs(old)
    assert models(server) == ["first", "first"]


@pytest.mark.slow
def test_one_that_hangs_is_ended_and_started_again(server: Server) -> None:
    async def work() -> None:
        async with supervised(server, restart_after=0.1) as one:
            await until(lambda: one.ready)
            hung = the_jvm(server)
            hung.suspend()
            one.failed()
            await until(lambda: len(models(server)) == 2 and one.ready)
            assert not jvm.runs(hung)

    with patch.object(module, "PROBE_LIMIT", 0.5):
        asyncio.run(work())
