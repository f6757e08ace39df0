"""Starts TorchServe and the gateway in front of it, and says ready only after a film has gone through; or stops both.

    python -m workflows.serve
    python -m workflows.serve stop
    python -m workflows.serve restart       # TorchServe alone, where it reads no film; the gateway does this itself

A server that runs these very archives already is left alone, as is a gateway that runs this code with these settings;
one that does not is started anew. The gateway's settings come from the environment: CXR_PORT=8001 make serve.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from handlers.report import Refusal
from workflows import command_line, gateway_process, ports, torchserve
from workflows.active import Active
from workflows.files.atomic import write_text
from workflows.register import check_archives, predict, probe_film, register
from workflows.server import CONFIG_FILE, Server, ServerError

PROBE_LIMIT = 10.0
"""Seconds for a film to come back from a server that is said to read none."""


def serve(server: Server) -> None:
    """Brings TorchServe up with the active workflow.

    Raises:
        ServerError: archives are missing or altered, the machine lacks what TorchServe needs (a port, say), or
            TorchServe or the workflow does not come up.
    """
    with torchserve.held(server):
        sums = check_archives(server, Active.of(server).name())
        if server.alive() and _stamp(server).exists() and _stamp(server).read_text() == _fingerprint(server, sums):
            register(server)
        else:
            _start_anew(server)


def restart(server: Server) -> None:
    """Starts TorchServe anew, unless it reads a film after all: another process may just have restarted it.

    Raises:
        ServerError: TorchServe or the workflow does not come up.
    """
    with torchserve.held(server):
        if not _reads(server):
            _start_anew(server)


def require_ports(server: Server) -> None:
    """All ports of TorchServe and of the gateway, before either is started.

    Raises:
        ServerError: one is another program's, or cannot be had.
    """
    gateway = gateway_process.running(server)
    ours = {process.pid for process in (*torchserve.running(server), *([gateway] if gateway else []))}
    ports.require_free([*ports.of_torchserve(server), gateway_process.port(server)], ours)


def stop(server: Server) -> None:
    """Ends TorchServe and waits until it has gone; nothing happens where none runs."""
    with torchserve.held(server):
        torchserve.end(server)


def note_running(server: Server) -> None:
    """Notes what runs: TorchServe's configuration and the active workflow's archives."""
    sums = check_archives(server, Active.of(server).name())
    write_text(_stamp(server), _fingerprint(server, sums))


def _start_anew(server: Server) -> None:
    torchserve.start(server)
    _stamp(server).unlink(missing_ok=True)
    register(server)
    torchserve.remember_unpacked(server)
    note_running(server)


def _reads(server: Server) -> bool:
    try:
        return not isinstance(predict(server, probe_film(), timeout=PROBE_LIMIT), Refusal)
    except ServerError:
        return False


def _stamp(server: Server) -> Path:
    return server.folder / "logs" / "serving.sha256"


def _fingerprint(server: Server, sums: dict[str, str]) -> str:
    digest = hashlib.sha256((server.folder / CONFIG_FILE).read_bytes())
    for _, archive in sorted(sums.items()):
        digest.update(bytes.fromhex(archive))
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", nargs="?", choices=("start", "stop", "restart"), default="start")
    parser.add_argument("--server", type=Path, default=Path(), metavar="DIR", help="folder with config.properties")
    chosen = parser.parse_args()
    try:
        server = Server.of_folder(chosen.server)
        if chosen.action == "start":
            require_ports(server)
            serve(server)
            gateway_process.start(server)
        elif chosen.action == "stop":
            gateway_process.stop(server)
            stop(server)
        else:
            restart(server)
    except ServerError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    return 0


if __name__ == "__main__":
    command_line.run(main)
