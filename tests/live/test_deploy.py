"""The systemd unit and the pod start the gateway as they say, and end it with nothing left."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from benchmarks.arms.torchserve import configure
from gateway.keys import KEYS_FILE, first_key, make
from tests.deploy import containerfile
from tests.deploy.pod import POD_NAME, Pod, overlay
from tests.live.pod_process import ADDRESS, PodProcess, lacks
from training.archive import archive
from workflows import torchserve
from workflows.server import Server

ROOT = Path(__file__).parents[2]
UNIT = (ROOT / "deploy" / "cxr-cascade.service").read_text()
INSTALLED = "/srv/cxr-cascade"
READY_WITHIN = 300.0
"""Seconds, on two cores that others use too."""


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("deployed")
    archive(run, folder / "model_store", "1.0.0", "float32")
    configure(folder)
    return Server.of_folder(folder)


@pytest.fixture
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cxr") as folder:
        yield Path(folder)


def wait_until_ready(ask: Callable[[], httpx.Response]) -> None:
    limit = time.monotonic() + READY_WITHIN
    while time.monotonic() < limit:
        with suppress(httpx.TransportError):
            if ask().is_success:
                return
        time.sleep(0.2)
    raise AssertionError(f"not ready within {READY_WITHIN:g} s")


def test_the_unit_s_command_reads_films_and_ends_with_0_and_nothing_left(
    server: Server, films: list[bytes], free_ports, tmp_path: Path, temporary: Path
) -> None:
    (port,) = free_ports(1)
    key = first_key(tmp_path)
    assert key is not None
    command = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)[0].split()
    assert command[0] == f"{INSTALLED}/.venv/bin/python"
    told = {"CXR_SERVER": str(server.folder), "CXR_PORT": str(port), "CXR_SECRETS": str(tmp_path)}
    given = {**os.environ, **told, "TMPDIR": str(temporary), "TEMP": str(temporary)}
    url = f"http://127.0.0.1:{port}"
    here = [sys.executable, *command[1:]]
    with subprocess.Popen(here, cwd=ROOT, env=given, stdout=subprocess.DEVNULL) as gateway:

        def ask() -> httpx.Response:
            assert gateway.poll() is None
            return httpx.get(f"{url}/health/ready", timeout=30)

        try:
            wait_until_ready(ask)
            headers = {"Authorization": f"Bearer {key.read_text().strip()}"}
            answer = httpx.post(f"{url}/v1/reports", content=films[0], headers=headers, timeout=60)
            assert answer.status_code == 200
            processes = torchserve.running(server)
            assert len(processes) == 3
            gateway.send_signal(signal.SIGTERM)
            assert gateway.wait(120) == 0
        finally:
            gateway.kill()
    assert not any(process.is_running() for process in processes)
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(bool(lacks()), reason=lacks())
def test_a_pod_s_container_reads_films_without_root_and_writes_to_its_volumes_alone(
    server: Server, films: list[bytes], tmp_path: Path
) -> None:
    pod = Pod.of(overlay("cpu"))
    key = make(tmp_path / "keys" / KEYS_FILE, "ward-3")
    headers = {"Authorization": f"Bearer {key}"}
    (tmp_path / "pod").mkdir()
    with PodProcess(pod, tmp_path / "pod", server.folder / "model_store", tmp_path / "keys") as container:
        url = f"http://{ADDRESS}:{pod.container['ports'][0]['containerPort']}"
        probe = f"{url}{pod.container['readinessProbe']['httpGet']['path']}"
        wait_until_ready(lambda: container.call(httpx.get, probe, timeout=30, trust_env=False))
        answer = container.call(
            httpx.post, f"{url}/v1/reports", content=films[0], headers=headers, timeout=60, trust_env=False
        )
        assert answer.status_code == 200
        said = f"{url}/v1/reports/{answer.json()['id']}/feedback"
        noted = container.call(httpx.post, said, json={"readable": False}, headers=headers, trust_env=False)
        assert noted.status_code == 201
        assert (container.volumes["records"] / POD_NAME / "gateway.sqlite").exists()
        health = json.loads(containerfile.words_of("HEALTHCHECK")[-1].partition("CMD ")[2])
        container.call(subprocess.run, [sys.executable, *health[1:]], check=True)

        assert container.writable() == {"/var/lib/cxr-cascade", "/tmp", "/records"}
        for port in (8080, 8081, 8082, 7070, 7071, 9000, 9001):
            with pytest.raises(ConnectionRefusedError):
                container.call(socket.create_connection, (ADDRESS, port), 5)
        processes = container.processes()
        assert len(processes) >= 5  # the gateway, TorchServe's parent, the JVM, two workers
        users = {user for process in processes for user in process.uids()}
        assert users == {pod.spec["securityContext"]["runAsUser"]}
        threads = {process.environ().get("OMP_NUM_THREADS") for process in processes}
        assert threads == {str(pod.container["resources"]["limits"]["cpu"])}

        assert container.stop(pod.spec["terminationGracePeriodSeconds"]) == 0
    assert not any(process.is_running() for process in processes)
    assert [one for one in container.volumes["tmp"].iterdir() if one.name.startswith(".cxr")] == []


def test_the_unit_is_one(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "cxr-cascade.service"
    unit.write_text(UNIT.replace(f"{INSTALLED}/.venv/bin/python", sys.executable))
    said = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (said.returncode, [line for line in said.stderr.splitlines() if unit.name in line]) == (0, [])
