"""A new pair of models in and out while films are read: none lost, and each read by one pair."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.upstream import Upstream
from handlers.report import Report
from tests.gateway.torchserve_stub import lost
from training.archive import archive
from workflows import roll as rolling
from workflows.active import Active
from workflows.register import predict, probe_film, register
from workflows.server import Server, ServerError
from workflows.sums import read_sums

OLD, NEW = "1.0.0+synthetic", "2.0.0+synthetic"


@pytest.fixture(scope="module")
def other_store(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("other") / "model_store"
    archive(run, store, "2.0.0", "float32")
    return store


@pytest.fixture
def rolled_back(server: Server) -> Iterator[None]:
    """The session's server serves its first pair afterwards, whatever happens."""
    yield
    active = Active.of(server)
    if (name := active.name()) != "chest_xray":
        active.set("chest_xray")
        rolling.retire(server, name)
    (server.store / "active").unlink(missing_ok=True)
    register(server)


def while_films_are_read(server: Server, films: list[bytes], *steps: Callable[[], object]) -> list[list[set[str]]]:
    """Clients read films as the gateway does, through ``steps`` one after another.

    Returns:
        for each stretch (before, during and after each step) the versions of each film's pair.
    """

    async def run() -> list[list[set[str]]]:
        upstream, active = Upstream(server, 64, lost()), Active.of(server)
        stretches: list[list[set[str]]] = [[]]

        async def client(first: int) -> None:
            at = first
            while True:
                at, stretch = (at + 1) % len(films), stretches[-1]
                report = await upstream.read(films[at], "roll", active.name(), {})  # raises where a film is lost
                assert isinstance(report, Report)
                stretch.append({report.models.binary, report.models.disease})

        clients = [asyncio.create_task(client(5 * at)) for at in range(8)]

        async def more(films: int) -> None:
            wanted, stretch = len(stretches[-1]) + films, stretches[-1]
            while len(stretch) < wanted:
                for one in clients:
                    if one.done():
                        one.result()
                await asyncio.sleep(0.01)

        await more(50)
        for step in steps:
            stretches.append([])
            await asyncio.to_thread(step)
            stretches.append([])
            await more(50)
        for one in clients:
            one.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await upstream.aclose()
        return stretches

    return asyncio.run(run())


@pytest.mark.slow
def test_a_new_pair_in_and_out_loses_no_film(
    server: Server, other_store: Path, film_paths: list[Path], rolled_back: None
) -> None:
    films = [path.read_bytes() for path in film_paths[:40]]
    before, rolls, new, returns, old = while_films_are_read(
        server, films, lambda: rolling.roll(server, other_store), lambda: rolling.back(server)
    )
    assert all(pair == {OLD} for pair in before)
    assert all(pair in ({OLD}, {NEW}) for pair in rolls)
    assert {OLD} in rolls
    assert all(pair == {NEW} for pair in new)
    assert all(pair in ({OLD}, {NEW}) for pair in returns)
    assert all(pair == {OLD} for pair in old)

    name = Active.of(server).before()
    assert name is not None
    assert NEW in (server.store / f"{name}.html").read_text()
    assert predict(server, probe_film(), name).models.binary == NEW
    with pytest.raises(ServerError, match="chest_xray is the one that is served: roll to another pair first"):
        rolling.retire(server, "chest_xray")
    rolling.retire(server, name)
    with pytest.raises(ServerError, match=f"the workflow {name} is not registered"):
        predict(server, probe_film(), name)
    assert not list(server.store.glob(f"*{name.removeprefix('chest_xray_')}*"))
    assert set(read_sums(server.store)) == {"binary.mar", "disease.mar", "chest_xray.war", "chest_xray.html"}
    with pytest.raises(ServerError, match="lacks binary_"):
        rolling.back(server)
    assert Active.of(server).name() == "chest_xray"


def test_an_altered_pair_is_refused_and_the_old_one_goes_on(server: Server, other_store: Path, tmp_path: Path) -> None:
    bad = tmp_path / "model_store"
    bad.mkdir()
    for path in other_store.iterdir():
        (bad / path.name).write_bytes(path.read_bytes())
    content = bytearray((bad / "binary.mar").read_bytes())
    content[len(content) // 2] ^= 1
    (bad / "binary.mar").write_bytes(content)
    before = sorted(server.store.iterdir())
    with pytest.raises(ServerError, match=r"binary.mar is not the file that 'make archive' wrote"):
        rolling.roll(server, bad)
    assert Active.of(server).name() == "chest_xray"
    assert sorted(server.store.iterdir()) == before
    assert predict(server, probe_film()).models.binary == OLD


def test_nothing_to_go_back_to_is_said(server: Server) -> None:
    with pytest.raises(ServerError, match="no other pair was served before this one"):
        rolling.back(server)


@pytest.mark.parametrize("name", ["../chest_xray", "chest_xray_1a2b3c4d"])
def test_an_unknown_workflow_is_not_retired(server: Server, name: str) -> None:
    with pytest.raises(ServerError, match=r"is no workflow's name|was not ended"):
        rolling.retire(server, name)
