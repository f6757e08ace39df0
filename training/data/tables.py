"""Tables and lists of films as the commands compare them: cells as text, films by one spelling of their names."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from workflows.files.text_files import FILM_SUFFIX, DataError, film_name, film_path, read_json, read_list, read_table

IMAGE = "Image Index"


def read_csv(path: Path) -> pd.DataFrame:
    """Every cell as text, an empty one as ``""``; the index holds the row of the file, where the header is row 1.

    Raises:
        DataError: no table, one without rows, or one that is damaged; the message names the row.
        FileNotFoundError: there is no such file.
    """
    table = read_table(path)
    if not table.rows:
        raise DataError(f"{path}: the table has no rows")
    named = [place for place, name in enumerate(table.columns) if name]
    cells = [[row[place] for place in named] for row in table.rows]
    return pd.DataFrame(cells, table.numbers, [table.columns[place] for place in named], dtype=str)


def read_parts(folder: Path) -> pd.DataFrame:
    """The rows that ``cluster.score`` has written, as ``read_film_table`` gives a CSV file's; they are counted from 1.

    Raises:
        DataError: the run has not ended, or the folder is none of such a run.
    """
    from pyarrow import dataset  # of the extra 'cluster', as what writes such a folder is

    parts = sorted(folder.glob("part-*.parquet"))
    manifest = folder / "_manifest.json"
    if not parts or not manifest.exists():
        raise DataError(f"{folder}: no results of cluster.score, with {manifest.name} and part-*.parquet")
    table = dataset.dataset(parts, format="parquet").to_table()
    films = read_json(manifest)["films"]
    if table.num_rows != films:
        raise DataError(f"{folder}: {table.num_rows} of {films} films are there: let cluster.score finish it")
    cells = {name: table[name].to_pylist() for name in table.column_names}
    columns = {name: ["" if cell is None else str(cell) for cell in column] for name, column in cells.items()}
    columns[IMAGE] = [film_path(name) for name in columns[IMAGE]]
    return pd.DataFrame(columns, range(1, films + 1), dtype=str)


def read_film_table(path: Path, column: str = IMAGE) -> pd.DataFrame:
    """The same, with the films of ``column`` as ``film_path`` spells them.

    Raises:
        DataError: as ``read_csv``; no such column, or a row that names no film.
        FileNotFoundError: there is no such file.
    """
    table = read_csv(path)
    require_columns(path, table, [column])
    refuse_blank(path, table, column)
    table[column] = table[column].map(film_path)
    return table


def read_film_list(path: Path) -> list[str]:
    """The films of a list like NIH's ``test_list.txt``, in its order, as ``film_path`` spells them.

    Raises:
        DataError: no text, or a list that names no film.
        FileNotFoundError: there is no such file.
    """
    return [film_path(name) for name in read_list(path)]


def film_names(texts: "pd.Series[str]") -> "pd.Series[str]":
    """Bare names, as in NIH's table; the whole paths where films share one and each has a folder to tell it by."""
    paths = texts.map(film_path)
    bare = texts.map(film_name)
    shared = (paths.groupby(bare).transform("nunique") > 1) & ~bare.isin(paths)
    return bare.where(~shared, paths)


def known_films(names: Iterable[str], images: "pd.Series[str]") -> list[str]:
    """Each name as ``images`` has it: by its whole path, or without folders, where that is one film alone.

    Where ``images`` has names without a suffix, a name's suffix is no part of it. A name of no film stays as it is.
    """
    bare = images.map(film_name)
    once = ~bare.duplicated(keep=False)
    known = dict(zip(bare[once], images[once], strict=True)) | dict(zip(images, images, strict=True))

    def spellings(name: str) -> tuple[str, ...]:
        return name, film_name(name), FILM_SUFFIX.sub("", film_name(name))

    return [next((known[one] for one in spellings(name) if one in known), name) for name in names]


def require_columns(path: Path, table: pd.DataFrame, columns: list[str]) -> None:
    """Raises DataError that names the columns that the table lacks, and those that it has."""
    missing = [name for name in columns if name not in table]
    if missing:
        lacking = f"{', '.join(map(repr, missing))} {'are' if missing[1:] else 'is'} missing"
        raise DataError(f"{path} row 1: {lacking}; the columns are {table.columns.tolist()[:12]}")


def refuse_blank(path: Path, table: pd.DataFrame, column: str) -> None:
    """Raises DataError that names the first row whose cell is empty."""
    blank = table.index[table[column] == ""].tolist()
    if blank:
        more = f", nor do {len(blank) - 1} more below it" if blank[1:] else ""
        raise DataError(f"{path} row {blank[0]}: it has nothing under {column!r}{more}")


def refuse_twice(where: object, images: "pd.Series[str]") -> None:
    """Raises DataError where a film has more than one row."""
    twice = images[images.duplicated()]
    if len(twice):
        first = f"the first in row {twice.index[0]}: {twice.tolist()[:10]}"
        raise DataError(f"{where}: {len(twice)} films are listed twice, {first}")


def find_column(table: pd.DataFrame, name: str, prefix: str = "") -> str | None:
    """The column of a finding, with ``_`` or a blank between its words; None where there is none."""
    spellings = (f"{prefix}{name}", f"{prefix}{name.replace('_', ' ')}")
    return next((spelling for spelling in spellings if spelling in table), None)
