"""TorchServe's JVM is gone, and two gateways watch: it is started again once, as it was, and nothing stays behind."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from gateway.supervisor import Supervisor
from gateway.upstream import Upstream
from tests.gateway.torchserve_stub import lost
from tests.service import live_torchserve
from workflows import torchserve
from workflows.active import Active
from workflows.server import Server

RETURNS_WITHIN = 240.0
"""Seconds, on two cores that others use too."""


@pytest.fixture
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A TorchServe that may be damaged."""
    with live_torchserve(run, tmp_path_factory.mktemp("kept")) as one:
        yield one


def jvm(server: Server) -> psutil.Process:
    (one,) = [process for process in torchserve.running(server) if process.name() == "java"]
    return one


def test_a_killed_jvm_is_started_again_once_and_leaves_nothing_behind(
    server: Server, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stranger's environment must not reach the new one.
    monkeypatch.setenv("TS_DISABLE_TOKEN_AUTHORIZATION", "true")
    monkeypatch.setenv("TS_INFERENCE_ADDRESS", "http://0.0.0.0:8080")
    monkeypatch.setenv("TS_CONFIG_FILE", "/nowhere/config.properties")
    old = torchserve.running(server)
    assert len(old) == 3

    async def kill_and_watch() -> list[int]:
        upstream = Upstream(server, 64, lost())
        keepers = [Supervisor(server, upstream, Active.of(server), patience=600) for _ in range(2)]
        watching = [asyncio.create_task(supervisor.run()) for supervisor in keepers]
        async with asyncio.timeout(RETURNS_WITHIN):
            while not all(supervisor.ready for supervisor in keepers):
                await asyncio.sleep(0.05)
            jvm(server).kill()
            for supervisor in keepers:
                supervisor.failed()
            while any(supervisor.ready for supervisor in keepers):
                await asyncio.sleep(0.05)
            while not any(supervisor.ready for supervisor in keepers):
                await asyncio.sleep(0.05)
            first = jvm(server).pid
            while not all(supervisor.ready for supervisor in keepers):
                await asyncio.sleep(0.05)
        for one in watching:
            one.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await upstream.aclose()
        return [first, jvm(server).pid]

    first, last = asyncio.run(kill_and_watch())
    assert first == last
    assert not any(process.is_running() for process in old)
    new = torchserve.running(server)
    assert len(new) == 3
    unpacked = server.folder / "tmp" / "models"
    assert {Path(process.cwd()) for process in new} == {server.folder, *unpacked.iterdir()}
    refused = http.post(f"{server.inference}/wfpredict/chest_xray", content=b"a film")
    assert refused.status_code == 400
    assert "InvalidKeyException" in refused.text
