"""The systemd unit and the container start the gateway as they say, and end it with nothing left."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from benchmarks.arms.torchserve import configure
from gateway.keys import first_key
from training.archive import archive
from workflows import torchserve
from workflows.server import Server

ROOT = Path(__file__).parents[2]
UNIT = (ROOT / "deploy" / "cxr-cascade.service").read_text()
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
INSTALLED = "/srv/cxr-cascade"
READY_WITHIN = 300.0
"""Seconds, on two cores that others use too."""


def instruction(name: str) -> str:
    return re.findall(rf"^{name} (.*)$", DOCKERFILE, re.MULTILINE)[-1]


COMMANDS = {
    "systemd": (re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)[0].split(), {}),
    "container": (
        json.loads(instruction("ENTRYPOINT")),
        dict(pair.split("=") for pair in instruction("ENV").split()),
    ),
}


def here(command: list[str]) -> list[str]:
    assert command[0].removeprefix(f"{INSTALLED}/") == ".venv/bin/python"
    return [sys.executable, *command[1:]]


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


def wait_until_ready(url: str, gateway: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + READY_WITHIN
    while time.monotonic() < limit:
        assert gateway.poll() is None
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/health/ready", timeout=30).is_success:
                return
        time.sleep(0.2)
    raise AssertionError(f"not ready within {READY_WITHIN:g} s")


@pytest.mark.parametrize("way", list(COMMANDS))
def test_the_command_reads_films_and_ends_with_0_and_nothing_left(
    way: str, server: Server, films: list[bytes], free_ports, tmp_path: Path, temporary: Path
) -> None:
    (port,) = free_ports(1)
    key = first_key(tmp_path)
    assert key is not None
    command, environment = COMMANDS[way]
    told = {"CXR_SERVER": str(server.folder), "CXR_PORT": str(port), "CXR_SECRETS": str(tmp_path)}
    given = {**os.environ, **environment, **told, "TMPDIR": str(temporary), "TEMP": str(temporary)}
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(here(command), cwd=ROOT, env=given, stdout=subprocess.DEVNULL) as gateway:
        try:
            wait_until_ready(url, gateway)
            headers = {"Authorization": f"Bearer {key.read_text().strip()}"}
            answer = httpx.post(f"{url}/v1/reports", content=films[0], headers=headers, timeout=60)
            assert answer.status_code == 200
            if way == "container":
                health = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
                subprocess.run([one.replace(":8000", f":{port}") for one in here(health)], check=True)
            processes = torchserve.running(server)
            assert len(processes) == 3
            gateway.send_signal(signal.SIGTERM)
            assert gateway.wait(120) == 0
        finally:
            gateway.kill()
    assert not any(process.is_running() for process in processes)
    assert list(temporary.iterdir()) == []


def test_the_unit_is_one(tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "cxr-cascade.service"
    unit.write_text(UNIT.replace(f"{INSTALLED}/.venv/bin/python", sys.executable))
    said = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (said.returncode, [line for line in said.stderr.splitlines() if unit.name in line]) == (0, [])


def test_the_container_holds_what_the_gateway_imports(tmp_path: Path) -> None:
    for folder in re.findall(r"^COPY (\S+) \S+$", DOCKERFILE, re.MULTILINE):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, tmp_path / folder)
    for module in ("gateway.__main__", "gateway.keys", "workflows.roll", "workflows.foreground"):
        subprocess.run([sys.executable, "-c", f"import {module}"], cwd=tmp_path, check=True)
