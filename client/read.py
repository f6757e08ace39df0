"""Sends films to the gateway and prints their reports.

    python -m client.read film.png other.dcm
    python -m client.read --json film.png

Exit code: 0 every film was read; 1 a file is missing, a film got no report, or what answers is not the gateway; 2 the
service is not up; 3 it refuses the key; 4 a film was refused.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from client.gateway import NO_REPORT, Gateway, add_arguments
from client.report_table import print_answer
from handlers.report import Refusal
from workflows import command_line
from workflows.server import ServerError

FILM_REFUSED = 4
PATIENCE = 120.0
"""Seconds for which a service that is full or restarts is waited for: a person does."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m client.read") -> int:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("films", nargs="+", type=Path, metavar="FILM", help="PNG, JPEG or DICOM file")
    parser.add_argument("--json", action="store_true", help="one line of JSON per film instead of a table")
    add_arguments(parser)
    chosen = parser.parse_args(arguments)
    gateway = Gateway.chosen(chosen, 1, PATIENCE)
    gateway.require_up()
    code = 0
    for film in chosen.films:
        answer = gateway.read(film.read_bytes())
        if isinstance(answer, Refusal):
            code = FILM_REFUSED
            if answer.error.type in NO_REPORT:
                raise ServerError(f"{film}: no report, {answer.error.type}: {answer.error.message}")
        if chosen.json:
            print(json.dumps({"film": str(film), **answer.model_dump()}), flush=True)
        else:
            print_answer(film.name, answer)
    return code


if __name__ == "__main__":
    command_line.run(main)
