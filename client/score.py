"""Scores an archive of films through the running service: a row a film, as training.evaluate --predictions reads it.

    python -m client.score /data/films --out predictions.csv
    python -m client.score /data/nih --list /data/nih/test_list.txt --out predictions.csv

Every PNG, JPEG and DICOM file under the folder, told by its content where its suffix does not. Rows are appended to
OUT.partial as they come; after a kill the same command goes on, and a complete table is renamed to OUT. A service that
is full, restarts or is away for less than an hour is waited for. Where `routed` is False stage 2 did not run and its 14
probabilities are 0.0, the gated score; a film that was refused has no probabilities, and the reason under `error`.

Exit code: 0 every film was read; 1 a film got no report, a file is missing, or what answers is not the gateway; 2 the
service is not up; 3 it refuses the key; 4 a film was refused; 130 Ctrl-C.
"""

import argparse
import os
import queue
import shlex
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from client.film_list import Film, find_films, listed_films
from client.gateway import NO_REPORT, Gateway, Line, Stopped
from client.journal import PredictionsTable, TableError
from client.read import FILM_REFUSED
from handlers.report import Refusal, Report
from workflows import command_line
from workflows.files.text_files import DataError, read_text
from workflows.server import ServerError

ADDRESS = "http://127.0.0.1:8000"
KEY_FILE = Path("secrets/first.key")
KEY_VARIABLE = "CXR_KEY"
CONCURRENCY = 32
"""Films under way: two full batches of a node."""
FILE_NOT_READ = "FileNotRead"
INTERRUPTED = 130

Row = tuple[str, Report | Refusal]


def score(films: Sequence[Film], table: PredictionsTable, gateway: Gateway, concurrency: int = CONCURRENCY) -> None:
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
    for _ in range(min(concurrency, len(left))):
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
    line = Line(gateway)
    try:
        while not gateway.stopped.is_set():
            with turn:
                film = next(turns, None)
            if film is None:
                return
            rows.put((film.name, _read(line, film)))
    except Stopped:
        return
    except Exception as fault:  # whatever it is, the run must not wait for this thread's rows
        rows.put(fault)


def _read(line: Line, film: Film) -> Report | Refusal:
    try:
        with open(film.path, "rb") as file:
            data = file.read()
    except OSError as fault:
        return Refusal.because(400, FILE_NOT_READ, str(fault))
    return line.read(data)


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


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(words)
    again = f"the same command goes on from there: python -m client.score {shlex.join(words)}"
    try:
        films = _films(chosen.folder, chosen.list)
        gateway = Gateway(chosen.address, _key(chosen.key_file))
        with PredictionsTable(chosen.out) as table:
            try:
                score(films, table, gateway, chosen.concurrency)
            except (KeyboardInterrupt, ServerError, OSError) as fault:
                print(f"{len(table.names)} of {len(films)} films are in {table.partial}; {again}", file=sys.stderr)
                raise fault
            table.finish()
            return _say(table)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ServerError, DataError, TableError, OSError) as fault:
        print(f"error: {fault}", file=sys.stderr)
        return fault.exit_code if isinstance(fault, ServerError) else 1


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m client.score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the films, at any depth")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write")
    parser.add_argument(
        "--list", type=Path, metavar="FILE", help="only these, one a line: a path in FOLDER, or absolute"
    )
    parser.add_argument("--address", default=ADDRESS, metavar="URL", help=f"the gateway's ({ADDRESS})")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help=f"holds the key (${KEY_VARIABLE}, or {KEY_FILE})")
    parser.add_argument("--concurrency", type=_positive, default=CONCURRENCY, metavar="N", help=f"({CONCURRENCY})")
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


def _key(path: Path | None) -> str:
    if path is None and (key := os.environ.get(KEY_VARIABLE)):
        return key.strip()
    path = path or KEY_FILE
    if not path.exists():
        raise FileNotFoundError(
            f"no key: {path} is not there ('make serve' makes a first one), nor is ${KEY_VARIABLE} set"
        )
    return read_text(path).strip()


def _say(table: PredictionsTable) -> int:
    """What became of the films, and the exit code."""
    lost = {name: why for name, why in table.errors.items() if why in NO_REPORT | {FILE_NOT_READ}}
    refused = {name: why for name, why in table.errors.items() if name not in lost}
    print(f"{table.path}: {len(table.names)} films, {len(table.names) - len(table.errors)} read")
    for what, films in (("refused", refused), ("without a report", lost)):
        if films:
            shown = ", ".join(f"{name} ({why})" for name, why in list(films.items())[:10])
            print(f"{len(films)} {what}: {shown}{', …' if len(films) > 10 else ''}")
    if len(table.models) > 1:
        print(f"the models changed meanwhile: {'; '.join(sorted(table.models))} (column 'models')")
    return 1 if lost else FILM_REFUSED if refused else 0


if __name__ == "__main__":
    command_line.run(main)
