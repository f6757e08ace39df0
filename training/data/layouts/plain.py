"""A plain CSV: ``path``, ``patient``, a column of 1, 0 or nothing for each finding, and what else is known.

``split`` (train, validation, test), ``sex``, ``age`` and ``view`` are read where they are there; ``No Finding`` is 1
for a film on which nothing was found. A finding's column has any name of ``training.data.label_map``.
"""

from pathlib import Path

import pandas as pd

from handlers.findings import FINDINGS, NO_FINDING
from training.data.label_map import is_known, targets_of
from training.data.layouts.source import Source, Uncertain, labels_of, rows_of, tables_with
from training.data.tables import read_csv, refuse_blank, refuse_twice
from workflows.files.text_files import DataError, film_path

PATH, PATIENT, SPLIT = "path", "patient", "split"
DESCRIPTION = (PATH, PATIENT, SPLIT, "sex", "age", "view")
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "validate", "valid", "val"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def tables(folder: Path) -> list[Path]:
    return tables_with(folder, PATH, PATIENT)


def read(paths: list[Path], uncertain: Uncertain) -> Source:
    """A column that names none of the 14 is counted where it holds labels, and not looked at where it does not.

    Raises:
        DataError: a damaged table, no finding's column, a label that is no number, a row without film or patient, a
            film listed twice, an unknown split, or a film with a finding and *No Finding*.
    """
    [path] = paths
    raw = read_csv(path).rename(columns=lambda column: column.lower() if column.lower() in DESCRIPTION else column)
    if twice := raw.columns[raw.columns.duplicated()].tolist():
        raise DataError(f"{path} row 1: the columns {twice} stand there twice, in other letters: rename all but one")
    for column in (PATH, PATIENT):
        refuse_blank(path, raw, column)
    images = raw[PATH].map(film_path)
    refuse_twice(path, images)
    columns = [column for column in raw.columns if is_known(column)]
    if not columns:
        raise DataError(
            f"{path} row 1: no column is one of the findings, {', '.join(FINDINGS)}, or {NO_FINDING}; the columns are "
            f"{raw.columns.tolist()[:12]}"
        )
    labels = labels_of(path, raw, columns, uncertain)
    contradictory = targets_of(labels).contradictory
    if contradictory.any():
        raise DataError(f"{path} row {raw.index[contradictory][0]}: {NO_FINDING!r} is 1, and so is a finding")
    table = rows_of(raw, image=images, file=images, **{name: name for name in DESCRIPTION[1:]})
    table["split"] = _splits(path, table["split"])
    others = [column for column in raw.columns if column not in (*columns, *DESCRIPTION)]
    remarks = (f"columns that are none of the 14 findings, and not read: {', '.join(others)}",) if others else ()
    source = Source(table, labels, remarks)
    return source.frontal() if "view" in raw else source


def _splits(path: Path, said: "pd.Series[str]") -> "pd.Series[str]":
    if (said == "").all():
        return said
    splits = said.str.lower().map(SPLITS)
    if splits.isna().any():
        raise DataError(
            f"{path} row {said.index[splits.isna()][0]}, column {SPLIT!r}: neither train, validation nor test. Without "
            "the column patients are drawn"
        )
    return splits
