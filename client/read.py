"""Sends films to the running cascade and prints their reports.

    python -m client.read film.png other.dcm
    python -m client.read --json film.png

Exit code: 0 every film was read; 1 a file is missing or the answer is no report; 2 the server is not up;
3 it refuses the token; 4 a film was refused.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from client.report_table import print_answer
from handlers.report import Refusal, Report, parse_answer
from workflows import command_line
from workflows.active import Active
from workflows.server import Server, ServerError

FILM_REFUSED = 4


def read(server: Server, film: bytes, workflow: str | None = None, timeout: float = 120.0) -> Report | Refusal:
    """One film through a workflow: the active one unless named.

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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m client.read", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("films", nargs="+", type=Path, metavar="FILM", help="PNG, JPEG or DICOM file")
    parser.add_argument("--json", action="store_true", help="one line of JSON per film instead of a table")
    parser.add_argument("--server", type=Path, default=Path(), metavar="DIR", help="folder the server was started in")
    chosen = parser.parse_args(arguments)
    try:
        server = Server.of_folder(chosen.server)
        answers = [_read_file(server, film, chosen.json) for film in chosen.films]
    except (ServerError, OSError) as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code if isinstance(fault, ServerError) else 1
    return FILM_REFUSED if any(isinstance(answer, Refusal) for answer in answers) else 0


def _read_file(server: Server, film: Path, as_json: bool) -> Report | Refusal:
    answer = read(server, film.read_bytes())
    if as_json:
        print(json.dumps({"film": str(film), **answer.model_dump()}), flush=True)
    else:
        print_answer(film.name, answer)
    return answer


if __name__ == "__main__":
    command_line.run(main)
