"""What every layout's reader makes of its tables: a row a film, and the data set's own labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.data.label_map import UNLABELLED
from workflows.files.text_files import DataError, read_header

Layout = Literal["nih", "chexpert", "mimic", "vindr", "padchest", "csv"]
Uncertain = Literal["ignore", "positive", "negative"]
"""What a label -1, which its report leaves open, is taken for."""
MEANINGS: dict[Uncertain, int] = {"ignore": UNLABELLED, "positive": 1, "negative": 0}

COLUMNS = ("image", "file", "patient", "split", "sex", "age", "view")
FRONTAL = ("PA", "AP", "AP_HORIZONTAL", "FRONTAL")
CSV = (".csv", ".csv.gz")


@dataclass(frozen=True)
class Source:
    """A data set's films, in the order of its tables.

    Attributes:
        table: N rows of text under ``COLUMNS``, the index being the row of the file. ``image`` names the film, ``file``
            is where it lies below the folder; ``split`` is "" where the tables give none, and so are ``sex``, ``age``
            and ``view``.
        labels: [N, L] int8 in {-1, 0, 1}, a column a label of the data set's own.
        remarks: what a person should know: what was left out, what was taken for what.
    """

    table: pd.DataFrame
    labels: pd.DataFrame
    remarks: tuple[str, ...] = ()

    def only(self, kept: NDArray[np.bool_], why: str) -> "Source":
        """The films of a mask, and a remark that says how many are left out and why, where any is."""
        if kept.all():
            return self
        remark = f"{(~kept).sum()} of {len(kept)} films are left out: {why}"
        return Source(self.table[kept], self.labels[kept], (*self.remarks, remark))

    def frontal(self) -> "Source":
        """The films that the table says to be frontal."""
        kept = self.table["view"].str.upper().isin(FRONTAL).to_numpy()
        others = self.table["view"][~kept].replace("", "none given").value_counts()
        named = ", ".join(f"{view} ({number})" for view, number in others.items())
        return self.only(kept, f"their view position is {named}")


def rows_of(raw: pd.DataFrame, **columns: "str | pd.Series[str]") -> pd.DataFrame:
    """``COLUMNS`` of a table: a series, or the name of one of its columns; "" where that is missing, or not given."""

    def column(given: "str | pd.Series[str]") -> "pd.Series[str]":
        if isinstance(given, str):
            return raw[given] if given in raw else pd.Series("", raw.index, dtype=str)
        return given

    return pd.DataFrame({name: column(columns.get(name, "")) for name in COLUMNS}, index=raw.index)


def labels_of(path: Path, raw: pd.DataFrame, columns: list[str], uncertain: Uncertain) -> pd.DataFrame:
    """[N, L] int8 of a table's cells: 1, 0, nothing (not labelled), or -1 (uncertain).

    Raises:
        DataError: a cell that is none of these; the message names row and column.
    """
    return pd.DataFrame({column: _labels(path, raw[column], uncertain) for column in columns}, index=raw.index)


def tables_with(folder: Path, *columns: str) -> list[Path]:
    """The folder's CSV files whose header has these columns, in whatever letters."""
    paths = sorted(path for path in folder.glob("*") if path.name.endswith(CSV))
    wanted = {column.lower() for column in columns}
    return [path for path in paths if wanted <= {column.lower() for column in read_header(path)}]


def first_of(folder: Path, *names: str) -> list[Path]:
    """The first of these files that is there, plain or packed (``.gz``); none where none is."""
    paths = (folder / f"{name}{packed}" for name in names for packed in ("", ".gz"))
    return [path for path in paths if path.exists()][:1]


def _labels(path: Path, cells: "pd.Series[str]", uncertain: Uncertain) -> NDArray[np.int8]:
    numbers = pd.to_numeric(cells.where(cells != "", "9"), errors="coerce")
    meanings = {1: 1, 0: 0, -1: MEANINGS[uncertain], 9: UNLABELLED}
    labels = numbers.map(meanings)
    wrong = cells[labels.isna() | ((numbers == 9) & (cells != ""))]
    if len(wrong):
        raise DataError(
            f"{path} row {wrong.index[0]}, column {cells.name!r}: {wrong.iloc[0]!r} is no label: 1 (present), 0 "
            "(absent), -1 (uncertain) and nothing (not labelled) are"
            + (f"; {len(wrong) - 1} more below it are none either" if len(wrong) > 1 else "")
        )
    return labels.to_numpy().astype(np.int8)
