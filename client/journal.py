"""A table of probabilities that grows by a row a film and survives a kill at any byte."""

import csv
import fcntl
import os
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path
from types import TracebackType

from handlers.findings import FINDINGS
from handlers.report import Refusal, Report
from workflows.files.atomic import NotWritten, naming

IMAGE, MODELS, ERROR = "Image Index", "models", "error"
COLUMNS = (IMAGE, "Finding", *(f"prob_{name}" for name in FINDINGS), "routed", MODELS, ERROR)


class TableError(ValueError):
    """The table is there already, or is not the one that this run would write."""


class PredictionsTable:
    """``path``, which is ``path.partial`` until it is complete; what an earlier run left there is gone on with.

    Args:
        path: a CSV file that is not there yet.

    Attributes:
        names: films with a row.
        errors: of the films that were not read, the reason.
        models: pairs of versions that the rows came from.

    Raises:
        TableError: ``path`` is there, another run writes it, or ``path.partial`` is no such table.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise TableError(f"{path} is there already: move it away, or give --out another name")
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        self.names: set[str] = set()
        self.errors: dict[str, str] = {}
        self.models: set[str] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.partial.open("ab", buffering=0)
        try:
            self._hold()
            self._go_on()
        except BaseException as fault:
            self._file.close()
            if isinstance(fault, NotWritten) and not self.partial.stat().st_size:
                self.partial.unlink()
            raise

    def __enter__(self) -> "PredictionsTable":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

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
        if isinstance(answer, Refusal):
            self._write({IMAGE: name, ERROR: answer.error.type})
            return
        models = f"binary={answer.models.binary} disease={answer.models.disease}"
        row = {IMAGE: name, "Finding": answer.finding.probability, "routed": answer.routed, MODELS: models}
        self._write(row | {f"prob_{finding}": answer.diseases[finding].probability for finding in FINDINGS})

    def finish(self) -> None:
        """Renames the table, which is complete, to its name."""
        with naming(self.path):
            os.fsync(self._file.fileno())
        self.partial.replace(self.path)

    def _write(self, row: dict[str, object]) -> None:
        values = [row.get(column, "") for column in COLUMNS]
        self._append(values)
        self._note([str(value) for value in values])

    def _append(self, values: Sequence[object]) -> None:
        """One line; what a full disk took of it is cut off again."""
        line, size = StringIO(), os.fstat(self._file.fileno()).st_size
        csv.writer(line, lineterminator="\n").writerow(values)
        left = line.getvalue().encode()
        try:
            with naming(self.partial):
                while left:
                    left = left[self._file.write(left) :]
        except NotWritten:
            self._file.truncate(size)
            raise

    def _note(self, values: list[str]) -> None:
        row = dict(zip(COLUMNS, values, strict=True))
        self.names.add(row[IMAGE])
        if row[ERROR]:
            self.errors[row[IMAGE]] = row[ERROR]
        else:
            self.models.add(row[MODELS])

    def _hold(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TableError(f"{self.partial} is being written by another run: wait for it, or end it") from None

    def _go_on(self) -> None:
        """Reads the rows that are there, and cuts off a last line that a kill left half-written."""
        written = self.partial.read_bytes()
        whole = written[: written.rfind(b"\n") + 1]
        try:
            rows = list(csv.reader(whole.decode().split("\n")[:-1]))
        except (UnicodeDecodeError, csv.Error) as fault:
            raise self._foreign() from fault
        if not rows and not ",".join(COLUMNS).encode().startswith(written):
            raise self._foreign()
        if any(len(row) != len(COLUMNS) for row in rows) or (rows and rows[0] != list(COLUMNS)):
            raise self._foreign()
        self._file.truncate(len(whole))
        for row in rows[1:]:
            self._note(row)
        if not rows:
            self._append(COLUMNS)

    def _foreign(self) -> TableError:
        return TableError(f"{self.partial} is no table of this command: move it away, or give --out another name")
