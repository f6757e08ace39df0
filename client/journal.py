"""The table of an archive's probabilities: rows in an SQLite file while they come, a CSV file once it is complete."""

import csv
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from handlers.findings import FINDINGS
from handlers.report import Refusal, Report
from workflows.command_line import Fault
from workflows.files.atomic import naming, written

IMAGE, ROUTED, MODELS, ERROR = "Image Index", "routed", "models", "error"
PROBABILITIES = ("Finding", *(f"prob_{name}" for name in FINDINGS))
COLUMNS = (IMAGE, *PROBABILITIES, ROUTED, MODELS, ERROR)
TABLE = f'CREATE TABLE films ("{IMAGE}" PRIMARY KEY, {", ".join(COLUMNS[1:])})'
"""As SQLite keeps the words, so that they tell this command's files from others."""


class TableError(Fault):
    """The table is there already, or is not the one that this run would write."""


def row_of(name: str, answer: Report | Refusal) -> dict[str, object]:
    """A film's cells by column: of a film that was refused its name and the reason alone."""
    if isinstance(answer, Refusal):
        return {IMAGE: name, ERROR: answer.error.type}
    models = f"binary={answer.models.binary} disease={answer.models.disease}"
    found = [answer.finding.probability, *(answer.diseases[finding].probability for finding in FINDINGS)]
    return {IMAGE: name, **dict(zip(PROBABILITIES, found, strict=True)), ROUTED: answer.routed, MODELS: models}


class PredictionsTable(AbstractContextManager["PredictionsTable"]):
    """The CSV file ``path``, whose rows are in ``path.partial`` until ``finish``; an earlier run's rows are kept.

    SQLite keeps every row whole, whatever ends the process, and locks the file against a second run.

    Args:
        path: where nothing is yet.

    Attributes:
        names: films with a row.

    Raises:
        TableError: ``path`` is there, another run writes it, or ``path.partial`` is no such table.
        NotWritten: the disk is full.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise TableError(f"{path} is there already: move it away, or give --out another name")
        self.path, self.partial = path, path.with_name(f"{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.partial.exists()
        with self._faults():
            self._rows = sqlite3.connect(self.partial, timeout=0, isolation_level=None)
        try:
            with self._faults():
                self.names = self._begin()
        except BaseException:
            self._close(remove=new)
            raise

    def __exit__(self, *_: object) -> None:
        self._close()

    def require_only(self, names: Iterable[str]) -> None:
        """Raises TableError where rows are of films that are not among these."""
        strange = sorted(self.names.difference(names))
        if strange:
            raise TableError(
                f"{self.partial} holds {len(strange)} films that are not among those to score, the first: "
                f"{strange[:10]}. Was it another folder's? Move it away, or give --out another name"
            )

    def add(self, name: str, answer: Report | Refusal) -> None:
        """A film's row, whole in the file when this returns.

        Raises:
            NotWritten: the disk is full; the rows before it are whole.
        """
        row = row_of(name, answer) | ({} if isinstance(answer, Refusal) else {ROUTED: str(answer.routed)})
        with self._faults():
            values = [row.get(column, "") for column in COLUMNS]
            self._rows.execute(f"INSERT INTO films VALUES ({', '.join('?' * len(values))})", values)
        self.names.add(name)

    def errors(self) -> dict[str, str]:
        """Of the films that were not read, the reason."""
        return dict(self._rows.execute(f"""SELECT "{IMAGE}", {ERROR} FROM films WHERE {ERROR} != '' ORDER BY rowid"""))

    def models(self) -> list[str]:
        """Pairs of versions that the rows came from."""
        found = self._rows.execute(f"SELECT DISTINCT {MODELS} FROM films WHERE {MODELS} != '' ORDER BY 1")
        return [models for (models,) in found]

    def finish(self) -> None:
        """Writes the CSV file, which is complete, with the rows as they came.

        Raises:
            NotWritten: the disk is full; the rows are kept.
        """
        with written(self.path) as new, new.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows(self._rows.execute("SELECT * FROM films ORDER BY rowid"))
        self._close(remove=True)

    def _begin(self) -> set[str]:
        self._rows.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._rows.execute("BEGIN EXCLUSIVE")
        known = self._rows.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        if not known and not self.partial.stat().st_size:  # SQLite takes any single byte for an empty file
            self._rows.execute(TABLE)
        elif known != [(TABLE,)]:
            raise self._foreign()
        self._rows.execute("COMMIT")
        # Rows are appended to a log of their own, without waiting for the disk at each.
        self._rows.execute("PRAGMA journal_mode=WAL")
        self._rows.execute("PRAGMA synchronous=NORMAL")
        return {name for (name,) in self._rows.execute(f'SELECT "{IMAGE}" FROM films')}

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """SQLite's faults in our words."""
        try:
            with naming(self.partial):
                yield
        except sqlite3.DatabaseError as fault:
            if fault.sqlite_errorname.startswith("SQLITE_BUSY"):
                said = f"{self.partial} is being written by another run: wait for it, or end it"
                raise TableError(said) from None
            if fault.sqlite_errorname == "SQLITE_NOTADB":
                raise self._foreign() from None
            raise TableError(f"{self.partial}: {fault}") from fault

    def _foreign(self) -> TableError:
        return TableError(f"{self.partial} is no table of this command: move it away, or give --out another name")

    def _close(self, remove: bool = False) -> None:
        self._rows.close()
        for part in (self.partial, self.partial.with_name(f"{self.partial.name}-wal")) if remove else ():
            part.unlink(missing_ok=True)
