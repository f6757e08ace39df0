"""Scores an archive of films through the running service: a row a film, as training.evaluate --predictions reads it.

    python -m client.score /data/films --out predictions.csv
    python -m client.score /data/nih --list /data/nih/test_list.txt --out predictions.csv

Every PNG, JPEG and DICOM file under the folder, told by its content where its suffix does not. Rows are kept in
OUT.partial (SQLite) as they come; after a kill the same command goes on, and a complete table is written to OUT. A
service that is full, restarts or is away for less than an hour is waited for. Where `routed` is False stage 2 did not
run and its 14 probabilities are 0.0, the gated score; a film that was refused has no probabilities, and the reason
under `error`.

Exit code: 0 every film was read; 1 a film got no report, a file is missing, or what answers is not the gateway; 2 the
service is not up; 3 it refuses the key; 4 a film was refused; 130 Ctrl-C.
"""

import argparse
import os
import queue
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from client.film_list import Film, find_films, listed_films
from client.gateway import CONNECTIONS, NO_REPORT, SILENCE_LIMIT, Gateway, Stopped, add_arguments
from client.journal import PredictionsTable
from client.read import FILM_REFUSED
from handlers.report import Refusal, Report
from workflows import command_line
from workflows.server import ServerError

FILE_NOT_READ = "FileNotRead"

Row = tuple[str, Report | Refusal]


def score(films: Sequence[Film], table: PredictionsTable, gateway: Gateway) -> None:
    """Adds the rows that the table lacks, in the order in which they come.

    Raises:
        ServerError: the service is down for too long, refuses the key, or is not the gateway.
        TableError: the table holds rows of other films.
        OSError: the table cannot be written.
    """
    table.require_only(film.name for film in films)
    left = [film for film in films if film.name not in table.names]
    rows: queue.SimpleQueue[Row | Exception] = queue.SimpleQueue()
    if left:
        gateway.require_up()
    turns, turn = iter(left), threading.Lock()
    # Daemons: what they wait for must not hold up the end of a run that is over.
    for _ in range(min(gateway.connections, len(left))):
        threading.Thread(target=_work, args=(turns, turn, gateway, rows), daemon=True).start()
    # Where nobody watches, a line a minute is enough.
    pace = 0.5 if sys.stderr.isatty() else 60.0
    try:
        with tqdm(total=len(films), initial=len(films) - len(left), unit=" films", mininterval=pace) as bar:
            for _ in left:
                table.add(*_next_row(rows, gateway, bar))
                bar.update()
    finally:
        gateway.stopped.set()


def _work(
    turns: Iterator[Film], turn: threading.Lock, gateway: Gateway, rows: queue.SimpleQueue[Row | Exception]
) -> None:
    try:
        while not gateway.stopped.is_set():
            with turn:
                film = next(turns, None)
            if film is None:
                return
            rows.put((film.name, _read(gateway, film)))
    except Stopped:
        return
    except Exception as fault:  # whatever it is, the run must not wait for this thread's rows
        rows.put(fault)


def _read(gateway: Gateway, film: Film) -> Report | Refusal:
    try:
        with open(film.path, "rb") as file:
            data = file.read()
    except OSError as fault:
        return Refusal.because(400, FILE_NOT_READ, str(fault))
    return gateway.read(data)


def _next_row(rows: queue.SimpleQueue[Row | Exception], gateway: Gateway, bar: "tqdm[NoReturn]") -> Row:
    while True:
        try:
            row = rows.get(timeout=1.0)
        except queue.Empty:
            bar.set_postfix_str(gateway.trouble[:60])
            continue
        if isinstance(row, Exception):
            raise row
        if bar.postfix:
            bar.set_postfix_str("", refresh=False)
        return row


def main(arguments: Sequence[str] | None = None, prog: str = "python -m client.score") -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(words, prog)
    films = _films(chosen.folder, chosen.list)
    gateway = Gateway.chosen(chosen, chosen.concurrency, SILENCE_LIMIT)
    with PredictionsTable(chosen.out) as table:
        try:
            score(films, table, gateway)
        except (KeyboardInterrupt, ServerError, OSError):
            again = f"the same command goes on from there: {prog} {shlex.join(words)}"
            print(f"{len(table.names)} of {len(films)} films are in {table.partial}; {again}", file=sys.stderr)
            raise
        errors, models = table.errors(), table.models()
        table.finish()
    code = say_outcome(str(table.path), len(table.names), errors)
    if len(models) > 1:
        print(f"the models changed meanwhile: {'; '.join(models)} (column 'models')")
    return code


def _parse(words: Sequence[str], prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the films, at any depth")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write")
    parser.add_argument(
        "--list", type=Path, metavar="FILE", help="only these, one a line: a path in FOLDER, or absolute"
    )
    add_arguments(parser)
    parser.add_argument("--concurrency", type=_positive, default=CONNECTIONS, metavar="N", help="(%(default)s)")
    return parser.parse_args(words)


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _films(folder: Path, listing: Path | None) -> list[Film]:
    films, others = (listed_films(folder, listing), 0) if listing else find_films(folder)
    if others:
        print(f"{others} files under {folder} are no films and are left out", file=sys.stderr)
    if any(os.sep in film.name for film in films):
        print(f"several films share a file name: rows are named by the path in {folder}", file=sys.stderr)
    return films


def say_outcome(where: str, films: int, errors: Mapping[str, str]) -> int:
    """Prints what became of the films, of which ``errors`` has the reasons of those that were not read.

    Returns:
        the exit code.
    """
    lost = {name: why for name, why in errors.items() if why in NO_REPORT | {FILE_NOT_READ}}
    refused = {name: why for name, why in errors.items() if name not in lost}
    print(f"{where}: {films} films, {films - len(errors)} read")
    for what, named in (("refused", refused), ("without a report", lost)):
        if named:
            shown = ", ".join(f"{name} ({why})" for name, why in list(named.items())[:10])
            print(f"{len(named)} {what}: {shown}{', …' if len(named) > 10 else ''}")
    return 1 if lost else FILM_REFUSED if refused else 0


if __name__ == "__main__":
    command_line.run(main)
