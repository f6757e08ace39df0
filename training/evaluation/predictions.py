"""Reads a predictions table, from any model, beside a data folder's tables; the films themselves are not needed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handlers.findings import FINDINGS, LABELS
from training.data.films import Films, read_table
from training.data.label_map import UNLABELLED
from training.data.tables import IMAGE, find_column, known_films, read_film_table, read_parts, refuse_twice
from workflows.files.text_files import DataError

ERROR = "error"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """Films in the order of the predictions table, with the targets that they are scored against.

    Attributes:
        path: the predictions table.
        names: L of them: ``Finding`` where the table has it (stage 1), then findings in NIH's order.
        images: [N] file names.
        patients: [N].
        targets: [N, L] in {-1, 0, 1}, -1 where a film is not labelled.
        scores: [N, L] in [0, 1].
    """

    path: Path
    names: tuple[str, ...]
    images: NDArray[np.str_]
    patients: NDArray[np.str_]
    targets: NDArray[np.int8]
    scores: NDArray[np.float64]

    def only(self, names: Sequence[str]) -> "Predictions":
        """The same films, these columns."""
        columns = [self.names.index(name) for name in names]
        return replace(self, names=tuple(names), targets=self.targets[:, columns], scores=self.scores[:, columns])

    def films(self, rows: NDArray[np.int64]) -> "Predictions":
        """The same columns, these rows."""
        parts = {part: getattr(self, part)[rows] for part in ("images", "patients", "targets", "scores")}
        return replace(self, **parts)


def read_predictions(path: Path, data: Path | Films | None, listed: Sequence[str] | None = None) -> Predictions:
    """Reads a table of probabilities, with a data set's labels as its targets.

    Args:
        path: a CSV with ``Image Index`` and a column for each finding, called ``Effusion`` or ``prob_Effusion`` (where
            both are there, the second: the first may be the label), in [0, 1]. ``Finding`` or ``prob_Finding`` is stage
            1's. A film without probabilities and with the reason under ``error`` was refused: it is left out, and
            named in the log. Other columns are ignored. A folder that ``cluster.score`` has written is such a table.
        data: folder with the tables of a layout, or what ``training.data.films`` read there. None where there is none:
            then no film is labelled, and each is taken for a patient of its own.
        listed: score these films only, as ``read_film_list`` names them; every film of the table unless told.

    Raises:
        DataError: the table is damaged, a column is missing, a value is no probability, a film is listed twice or
            unknown to the metadata table, or a listed film has no row or was refused.
        FileNotFoundError: no such file.
        LabelError: the metadata table has an unknown finding.
    """
    table = read_parts(path) if path.is_dir() else read_film_table(path)
    columns = _find_columns(path, table)
    films = read_table(data) if isinstance(data, Path) else data
    known = films.table["image"] if films else table[IMAGE]
    table[IMAGE] = known_films(table[IMAGE], known)
    if listed is not None:
        listed = known_films(listed, known)
        _require(listed, table[IMAGE], f"{path}: %d of the films to score have no row")
        table = table[table[IMAGE].isin(listed)]
    refuse_twice(path, table[IMAGE])
    table = _leave_out_refused(path, table, list(columns.values()), listed is not None)
    if not len(table):
        raise DataError(f"{path}: no film to score")
    patients, targets = _patients_and_targets(path, table, films)
    return Predictions(
        path=path,
        names=tuple(columns),
        images=table[IMAGE].to_numpy(dtype=str),
        patients=patients,
        targets=targets[:, [LABELS.index(name) for name in columns]],
        scores=np.stack([probabilities(path, table, column) for column in columns.values()], axis=1),
    )


def _patients_and_targets(
    path: Path, table: pd.DataFrame, films: Films | None
) -> tuple[NDArray[np.str_], NDArray[np.int8]]:
    """[N] and [N, 15], of the rows' films."""
    if films is None:
        return table[IMAGE].to_numpy(dtype=str), np.full((len(table), len(LABELS)), UNLABELLED, np.int8)
    known = films.table["image"]
    complaint = f"{path}: %d films are not in {films.folder}'s metadata table (--list FILE scores only some)"
    _require(table[IMAGE], known, complaint)
    rows = pd.Index(known).get_indexer(pd.Index(table[IMAGE]))
    targets = np.concatenate([films.findings, films.diseases], axis=1)[rows]
    return films.table["patient"].to_numpy(dtype=str)[rows], targets


def _leave_out_refused(path: Path, table: pd.DataFrame, columns: list[str], listed: bool) -> pd.DataFrame:
    """Without the rows that say why they have no probabilities; a film that was asked for by name must have them."""
    if ERROR not in table:
        return table
    refused = (table[columns] == "").all(axis=1) & table[ERROR].ne("")
    if not refused.any():
        return table
    films = (table[IMAGE] + " (" + table[ERROR] + ")")[refused].tolist()
    if listed:
        raise DataError(f"{path}: {len(films)} of the films to score were refused, the first: {films[:10]}")
    logger.warning("%s: %d films were refused and are left out, the first: %s", path, len(films), films[:10])
    return table[~refused]


def _find_columns(path: Path, table: pd.DataFrame) -> dict[str, str]:
    found = {name: find_column(table, name, "prob_") or find_column(table, name) for name in LABELS}
    missing = [name for name in FINDINGS if not found[name]]
    if missing:
        raise DataError(f"{path}: no column, plain or with 'prob_' before it, for {', '.join(missing)}")
    return {name: column for name, column in found.items() if column}


def _require(films: "Sequence[str] | pd.Series[str]", known: "pd.Series[str]", complaint: str) -> None:
    lacking = pd.Index(films).difference(pd.Index(known), sort=False).tolist()
    if lacking:
        raise DataError(f"{complaint % len(lacking)}, the first: {lacking[:10]}")


def probabilities(path: Path, table: pd.DataFrame, column: str) -> NDArray[np.float64]:
    """[N] of a column; raises DataError for the first row that holds no probability."""
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(wrong):
        row = table.iloc[wrong[0]]
        raise DataError(
            f"{path} row {row.name} ({row[IMAGE]}), column {column!r}: {row[column]!r} is not a probability in [0, 1]"
            + (f", nor are {len(wrong) - 1} more below it" if len(wrong) > 1 else "")
        )
    return values
