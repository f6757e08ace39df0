"""Registers the workflow with a running TorchServe, and says ready only after a film has gone through.

python -m workflows.register      # a TorchServe that was started by hand; the gateway does this itself
"""

import argparse
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image
from pydantic import ValidationError

from handlers.report import Refusal, Report, parse_answer
from workflows import command_line, dag_executor, torchserve
from workflows.active import WORKFLOW, Active
from workflows.server import Server, ServerError
from workflows.store import check_archives, deploy

LOAD_LIMIT = 300.0
"""Seconds until both models must be loaded."""
LOADING = "loading the two models; a worker takes 5 to 15 s ..."
PROBES, PROBE_LIMIT = 3, 30.0
"""Films that are tried, and the seconds that each may take."""


def register(server: Server, workflow: str | None = None) -> Report:
    """Waits for the server, registers a workflow (the active one unless named), reads one film through it: its report.

    Raises:
        ServerError: archives are missing or altered, a worker does not start, or the film comes back without a report.
    """
    name = workflow or Active.of(server).name()
    check_archives(server.store, name)
    dag_executor.install(server.folder)
    process = torchserve.wait_until_up(server)
    with torchserve.cause_of_end(server, process):
        _load(server, name)
        answer = _first_answer(server, name)
    if isinstance(answer, Refusal):
        raise ServerError(f"the server is up, but a blank film was refused: {answer.error.message}")
    return answer


def predict(server: Server, film: bytes, workflow: str | None = None, timeout: float = 120.0) -> Report | Refusal:
    """One film through TorchServe's workflow, past the gateway: the active one unless named.

    Raises:
        ServerError: the server is down, refuses the token, or does not answer with a report.
    """
    name = workflow or Active.of(server).name()
    response = server.call("POST", f"{server.inference}/wfpredict/{name}", "inference", timeout, content=film)
    if response.status_code == 404:
        raise ServerError(f"the workflow {name} is not registered; run 'make serve'")
    try:
        return parse_answer(response.content)
    except ValidationError:
        raise ServerError(f"no report, but HTTP {response.status_code}: {response.text[:300]}") from None


def _load(server: Server, name: str) -> None:
    url = f"{server.management}/workflows?url={name}.war&workflow_name={name}"
    response = server.call("POST", url, "management", timeout=LOAD_LIMIT)
    if response.status_code != 409 and not response.is_success:  # 409: it is registered already
        said = response.text.strip()
        meant = torchserve.setting_meant(server, said)
        raise ServerError(f"the workflow was not registered: {said}{meant} (see {server.folder}/logs)")


def _first_answer(server: Server, name: str) -> Report | Refusal:
    """On a machine short of CPU TorchServe loses an answer now and then, most often a new workflow's first."""
    for left in reversed(range(PROBES)):
        try:
            return predict(server, probe_film(), name, timeout=PROBE_LIMIT)
        except ServerError:
            if not left:
                raise
    raise AssertionError("unreachable")


def probe_film() -> bytes:
    """A grey wedge as PNG: a readable film that shows nothing."""
    buffer = BytesIO()
    Image.linear_gradient("L").save(buffer, "PNG")
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None, prog: str = "python -m workflows.register") -> None:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("--server", type=Path, default=Path(), metavar="DIR", help="folder the server was started in")
    server = Server.of_folder(parser.parse_args(arguments).server)
    with torchserve.held(server):
        torchserve.wait_until_up(server)
        if not server.call("GET", f"{server.management}/workflows/{WORKFLOW}", "management").is_success:
            deploy(server)  # what it serves already stays as it is
        print(LOADING, flush=True)
        register(server)
    print(f"ready: POST {server.inference}/wfpredict/{Active.of(server).name()}", flush=True)


if __name__ == "__main__":
    command_line.run(main)
