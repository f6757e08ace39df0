"""Registers the workflow with a running TorchServe, and says ready only after a film has gone through.

python -m workflows.register
"""

import argparse
import sys
import time
from io import BytesIO
from pathlib import Path

from PIL import Image

from handlers.report import Refusal
from workflows.client import WORKFLOW, read
from workflows.server import Server, ServerDown, ServerError

ARCHIVES = ("binary.mar", "disease.mar", f"{WORKFLOW}.war")
START_LIMIT = 60.0
"""Seconds until a started TorchServe must answer."""
LOAD_LIMIT = 300.0
"""Seconds until both models must be loaded."""


def register(server: Server) -> None:
    """Waits for the server, registers ``chest_xray.war``, reads one film.

    Raises:
        ServerError: the archives are missing, a worker does not start, or the film comes back without a report.
    """
    check_archives(server)
    wait_until_up(server)
    print("loading the two models; a worker takes 5 to 15 s ...", flush=True)
    url = f"{server.management}/workflows?url={WORKFLOW}.war&workflow_name={WORKFLOW}"
    response = server.call("POST", url, "management", timeout=LOAD_LIMIT)
    if response.status_code != 409 and not response.is_success:  # 409: it is registered already
        raise ServerError(f"the workflow was not registered: {response.text.strip()} (see {server.folder}/logs)")
    answer = read(server, probe_film())
    if isinstance(answer, Refusal):
        raise ServerError(f"the server is up, but a blank film was refused: {answer.error.message}")
    print(f"ready: POST {server.inference}/wfpredict/{WORKFLOW}", flush=True)


def check_archives(server: Server) -> None:
    """Raises ServerError where the store is incomplete."""
    missing = [name for name in ARCHIVES if not (server.store / name).exists()]
    if missing:
        raise ServerError(f"{server.store} lacks {', '.join(missing)}: run 'make archive' first")


def wait_until_up(server: Server) -> None:
    """Raises ServerDown where the server does not answer in time."""
    deadline = time.monotonic() + START_LIMIT
    while not server.alive():
        if time.monotonic() > deadline:
            raise ServerDown(
                f"nothing answers at {server.inference} after {START_LIMIT:g} s (see {server.folder}/logs)"
            )
        time.sleep(0.2)


def probe_film() -> bytes:
    """A grey wedge as PNG: a readable film that shows nothing."""
    buffer = BytesIO()
    Image.linear_gradient("L").save(buffer, "PNG")
    return buffer.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m workflows.register", description=__doc__.splitlines()[0])
    parser.add_argument("--server", type=Path, default=Path(), metavar="DIR", help="folder the server was started in")
    try:
        register(Server.of_folder(parser.parse_args().server))
    except ServerError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
