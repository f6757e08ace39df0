"""The gateway as a process in the background: started, left alone where it is up to date, drained and ended.

It is asked for its settings and its first key as a program; nothing here imports it.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

import workflows
from workflows.files.atomic import write_text
from workflows.ports import LAST, Port, port_number, require_free
from workflows.server import Server, ServerError

ROOT = Path(workflows.__path__[0]).parent
READY_LIMIT = 60.0
"""Seconds until the gateway must have read a film."""
DRAIN_LIMIT = 90.0
"""Seconds until a gateway that drains must have gone; a film has 30 of them."""


def start(server: Server) -> None:
    """Starts the gateway, waits until it is ready, and says where it listens and where the first key lies.

    Raises:
        ServerError: its port is taken, or it does not become ready.
    """
    environment = _environment(server)
    said = _run(environment, "-m", "gateway", "--print_config")
    settings = yaml.safe_load(said)
    wanted = _fingerprint(said)
    said_before = _log(server).stat().st_size if _log(server).exists() else 0
    if running(server) is None or not _stamp(server).exists() or _stamp(server).read_text() != wanted:
        own = running(server)
        require_free([_port(settings)], {own.pid} if own else set())
        stop(server)
        _spawn(server, environment)
    _wait_until_ready(server, settings, said_before)
    write_text(_stamp(server), wanted)
    key = _run(environment, "-m", "gateway.keys", "first", "--secrets", settings["secrets"]).strip()
    print(f"ready: POST {_address(settings)}/v1/reports   (key: {key})", flush=True)
    print(f"ready: {_address(settings)}/ in a browser       (it asks for the key)", flush=True)


def port(server: Server) -> Port:
    """Where the gateway is going to listen.

    Raises:
        ServerError: its settings are refused.
    """
    return _port(yaml.safe_load(_run(_environment(server), "-m", "gateway", "--print_config")))


def stop(server: Server) -> None:
    """SIGTERM, and waits until the films that were taken are answered; nothing happens where none runs."""
    process = running(server)
    if process is not None:
        process.terminate()
        try:
            process.wait(DRAIN_LIMIT)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(DRAIN_LIMIT)
    _stamp(server).unlink(missing_ok=True)
    _pid_file(server).unlink(missing_ok=True)


def running(server: Server) -> psutil.Process | None:
    """The gateway that ``start`` started for this server."""
    try:
        process = psutil.Process(int(_pid_file(server).read_text()))
        return process if process.is_running() and _is_gateway(process) else None
    except (FileNotFoundError, ValueError, psutil.Error):
        return None


def _is_gateway(process: psutil.Process) -> bool:
    """A process id in a file that was left behind may be another program's by now."""
    return process.status() != psutil.STATUS_ZOMBIE and process.cmdline()[1:3] == ["-m", "gateway"]


def _spawn(server: Server, environment: dict[str, str]) -> None:
    with _log(server).open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        write_text(_pid_file(server), f"{process.pid}\n")
    except OSError:  # without it nobody could stop the process
        process.terminate()
        process.wait(DRAIN_LIMIT)
        raise


def _wait_until_ready(server: Server, settings: dict[str, Any], said_before: int) -> None:
    deadline = time.monotonic() + READY_LIMIT
    while running(server) is not None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{_address(settings)}/health/ready", timeout=5.0, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    how = f"is not ready after {READY_LIMIT:g} s" if running(server) else "has ended"
    raise ServerError(f"the gateway {how} (see {_log(server)}): {_last_fault(server, said_before)}")


def _last_fault(server: Server, said_before: int) -> str:
    """The last error in its log; a gateway that ends by itself takes its leave in further lines."""
    with _log(server).open("rb") as log:
        log.seek(said_before)
        lines = log.read().decode(errors="replace").strip().splitlines()
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:  # not the log's: an error before there was one
            return line[:300]
        if isinstance(entry, dict) and entry.get("level") in ("ERROR", "CRITICAL"):
            return str(entry.get("message"))[:300]
    return lines[-1][:300] if lines else "it said nothing"


def _log(server: Server) -> Path:
    return server.folder / "logs" / "gateway.log"


def _port(settings: dict[str, Any]) -> Port:
    number = port_number(settings["port"], "the gateway's port (CXR_PORT)")
    another = f"choose another port: CXR_PORT={number + 1 if number < LAST else number - 1} make serve"
    return Port("the gateway", settings["host"], number, "CXR_PORT", another)


def _environment(server: Server) -> dict[str, str]:
    return {**os.environ, "CXR_SERVER": str(server.folder.resolve())}


def _address(settings: dict[str, Any]) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings["host"], settings["host"])
    return f"http://{host}:{settings['port']}"


def _run(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServerError(f"the gateway's settings are refused: {done.stderr.strip()}")
    return done.stdout


def _fingerprint(settings: str) -> str:
    digest = hashlib.sha256(settings.encode())
    for package in ("gateway", "handlers", "workflows"):
        for path in sorted((ROOT / package).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _stamp(server: Server) -> Path:
    return server.folder / "logs" / "gateway.sha256"


def _pid_file(server: Server) -> Path:
    return server.folder / "logs" / "gateway.pid"
