"""The gateway as a process in the background: started, left alone where it is up to date, drained and ended.

    python -m gateway.background start      # what 'make serve' does; further words as of python -m gateway
    python -m gateway.background stop

A gateway that runs this code with these settings and this ``config.properties``, and serves what is packed, is left
alone, whoever started it; another is drained and started anew. What would hinder the new one is said before that.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import psutil

import gateway
from gateway.keys import first_key
from gateway.settings import Settings, parse_settings
from gateway.supervisor import State
from workflows import command_line, java, jvm, ports, store, torchserve
from workflows.active import Active
from workflows.files.atomic import write_text
from workflows.ports import LAST, Port, port_number
from workflows.register import LOADING
from workflows.server import CONFIG_FILE, Server, ServerError

ROOT = Path(gateway.__path__[0]).parent
READY_LIMIT = 480.0
"""Seconds until the gateway must be ready; what it waits for has limits of its own, which are below this."""
END_LIMIT = 150.0
"""Seconds until a gateway that drains must have gone: a film's limits, and those of TorchServe's end."""


def start(settings: Settings, words: Sequence[str]) -> None:
    """Starts the gateway, waits until it is ready, and says where it listens and where the first key lies.

    Args:
        settings: of the gateway.
        words: the command line that they come from; it is the gateway's.

    Raises:
        ServerError: the machine or the store lacks what is needed (then the one that runs goes on), or the gateway does
            not become ready.
    """
    server = Server.of_folder(settings.server)
    deploys = store.check_served(server)
    process, log = running(server), _log(server)
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as output:
        before = output.tell()
        if process is None or deploys or _note(server).get("fingerprint") != fingerprint(settings):
            java.require_java()
            require_ports(server, settings)
            _end(process)
            print(LOADING, flush=True)
            process = psutil.Popen(
                [sys.executable, "-m", "gateway", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    try:
        _wait_until_ready(server, settings, process, before)
    except BaseException:
        if isinstance(process, psutil.Popen):
            _end(process)
        raise
    key, address = first_key(settings.secrets) or "made by 'python -m gateway.keys make NAME'", _address(settings)
    print(f"ready: POST {server.inference}/wfpredict/{Active.of(server).name()}")
    print(f"ready: POST {address}/v1/reports   (key: {key})")
    print(f"ready: {address}/ in a browser       (it asks for the key)", flush=True)


def stop(settings: Settings) -> None:
    """SIGTERM, and waits until the films that were taken are answered and TorchServe has gone."""
    server = Server.of_folder(settings.server)
    _end(running(server))
    if torchserve.is_left_over(server):
        torchserve.end(server)


def running(server: Server) -> psutil.Process | None:
    """The gateway of a folder, whoever started it; of several the first."""
    try:
        note = _note(server)
        process = psutil.Process(note["pid"])
        # A process id comes to be another program's.
        return process if jvm.started(process) == note["started"] and jvm.runs(process) else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


@contextmanager
def noted(settings: Settings) -> Iterator[None]:
    """Notes this process as the gateway of its folder for as long as the block lasts, unless another one is.

    Raises:
        NotWritten: the disk is full.
    """
    server = Server.of_folder(settings.server)
    if running(server) is not None:
        yield
        return
    this = psutil.Process()
    note = {"pid": this.pid, "started": jvm.started(this), "fingerprint": fingerprint(settings)}
    write_text(_pid_file(server), json.dumps(note))
    try:
        yield
    finally:
        _pid_file(server).unlink(missing_ok=True)


def fingerprint(settings: Settings) -> str:
    """Of the code, the settings and ``config.properties``: what makes another gateway of one that runs."""
    told = [str(value.resolve()) if isinstance(value, Path) else value for value in asdict(settings).values()]
    digest = hashlib.sha256(json.dumps(told).encode())
    digest.update((settings.server / CONFIG_FILE).read_bytes())
    for package in ("gateway", "handlers", "pacs", "workflows"):
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def require_ports(server: Server, settings: Settings) -> None:
    """Raises ServerError where TorchServe or the gateway could not listen, unless it is they who do."""
    process = running(server)
    ours = {one.pid for one in (*torchserve.running(server), *([process] if process else []))}
    number = port_number(settings.port, "the gateway's port (CXR_PORT)")
    another = f"choose another port: CXR_PORT={number + 1 if number < LAST else number - 1} make serve"
    own = Port("the gateway", settings.host, number, "CXR_PORT", another)
    ports.require_free([*ports.of_torchserve(server), own], ours)


def _end(process: psutil.Process | None) -> None:
    with suppress(psutil.NoSuchProcess):
        if process is not None:
            process.terminate()
            if jvm.still_running([process], END_LIMIT):
                process.kill()  # its TorchServe ends with it


def _wait_until_ready(server: Server, settings: Settings, process: psutil.Process, before: int) -> None:
    """``before``: how long the log was when the gateway was started, or was found."""
    url, deadline = f"{_address(settings)}/health/ready", time.monotonic() + READY_LIMIT
    while time.monotonic() < deadline:
        if not jvm.runs(process):
            break
        with suppress(httpx.TransportError):
            answer = httpx.get(url, timeout=5.0, trust_env=False)
            if answer.is_success:
                return
            if answer.json()["torchserve"] == State.FAILING:
                raise ServerError(_last_fault(server, before))
        time.sleep(0.5)
    how = f"is not ready after {READY_LIMIT:g} s" if jvm.runs(process) else "has ended"
    raise ServerError(f"the gateway {how}: {_last_fault(server, before)}")


def _last_fault(server: Server, before: int) -> str:
    """The last error in its log; a gateway that ends by itself takes its leave in further lines."""
    with _log(server).open(errors="replace") as log:
        log.seek(before)
        for line in reversed(log.read().splitlines()):
            if not line.startswith("{"):  # an error before there was a log
                return line[:1000]
            with suppress(ValueError, KeyError):  # a line that was cut, or another program's
                entry = json.loads(line)
                if entry["level"] in ("ERROR", "CRITICAL"):
                    return str(entry["message"])[:1000]
    return f"it reads no film (see {_log(server)})"


def _address(settings: Settings) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    return f"http://{host}:{settings.port}"


def _log(server: Server) -> Path:
    return server.folder / "logs" / "gateway.log"


def _pid_file(server: Server) -> Path:
    return server.folder / "logs" / "gateway.pid"


def _note(server: Server) -> dict[str, Any]:
    return json.loads(_pid_file(server).read_text())


def main(arguments: Sequence[str] | None = None, prog: str = "python -m gateway.background") -> None:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("start", "stop"))
    chosen, words = parser.parse_known_args(arguments)
    settings = parse_settings(words)
    if chosen.action == "start":
        start(settings, words)
    else:
        stop(settings)


if __name__ == "__main__":
    command_line.run(main)
