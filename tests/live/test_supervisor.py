"""The gateway is TorchServe's parent: what is killed returns by itself, and what the killed had started is gone."""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.arms.torchserve import configure
from tests.gateway.conftest import Gateway
from tests.gateway.stand_in import content
from training.archive import archive
from workflows import jvm, torchserve
from workflows.server import Server

RETURNS_WITHIN = 240.0
"""Seconds, on two cores that others use too."""
GONE_WITHIN = 60.0


@pytest.fixture
def server(run: Path, tmp_path: Path) -> Server:
    """The folder of one that does not run, with a pair that is packed."""
    folder = tmp_path / "server"
    archive(run, folder / "model_store", "1.0.0", "float32")
    configure(folder)
    return Server.of_folder(folder)


@pytest.fixture
def gateway(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """It starts TorchServe, which a stranger's environment must not reach."""
    monkeypatch.setenv("TS_DISABLE_TOKEN_AUTHORIZATION", "true")
    monkeypatch.setenv("TS_INFERENCE_ADDRESS", "http://0.0.0.0:8080")
    monkeypatch.setenv("TS_CONFIG_FILE", "/nowhere/config.properties")
    one = Gateway(server.folder, tmp_path, ready=False)
    one.until(lambda: one.get("/health/ready").is_success, RETURNS_WITHIN)
    yield one
    one.process.kill()
    one.process.wait()


def running(server: Server) -> tuple[list[psutil.Process], set[Path]]:
    """TorchServe's processes with the one that started them, and the folders that its workers unpacked."""
    processes = torchserve.running(server)
    assert len(processes) == 3
    parent = processes[0].parent()
    assert parent is not None
    return [parent, *processes], {Path(process.cwd()) for process in processes[1:]}


@pytest.mark.slow
def test_a_killed_jvm_is_back_without_anybody_s_help_and_leaves_nothing_behind(
    gateway: Gateway, server: Server, films: list[bytes]
) -> None:
    old, unpacked = running(server)
    report = gateway.read(films[0])
    old[1].kill()
    gateway.until(lambda: gateway.state()["torchserve"] == "restarting", RETURNS_WITHIN)
    assert gateway.get("/health/live").is_success
    gateway.until(lambda: gateway.get("/health/ready").is_success, RETURNS_WITHIN)
    assert content(gateway.read(films[0])) == content(report)
    assert not any(map(jvm.runs, old))
    assert not any(folder.exists() for folder in unpacked)
    new, again = running(server)
    assert {process.pid for process in new}.isdisjoint(process.pid for process in old)
    refused = httpx.post(f"{server.inference}/wfpredict/chest_xray", content=b"a film", timeout=60)
    assert (refused.status_code, refused.json()["type"]) == (400, "InvalidKeyException")
    assert gateway.stop() == 0
    assert not any(map(jvm.runs, new))
    assert not any(folder.exists() for folder in again)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_torchserve_its_workers_and_what_they_unpacked_go_with_the_gateway(
    gateway: Gateway, server: Server, sent: signal.Signals
) -> None:
    processes, unpacked = running(server)
    gateway.process.send_signal(sent)
    assert gateway.process.wait(GONE_WITHIN) == (0 if sent is signal.SIGTERM else -sent)
    assert psutil.wait_procs(processes, timeout=GONE_WITHIN)[1] == []
    assert not any(folder.parents[1].exists() for folder in unpacked)
