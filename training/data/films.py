"""The NIH ChestX-ray14 layout: the table, where the films lie, and which patient is in which split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.data.labels import any_finding, parse_finding_labels
from training.data.splits import SPLITS, Split, assign_splits
from training.data.tables import read_film_table, refuse_blank, refuse_twice, require_columns
from workflows.files.text_files import DataError, film_name

SYNTHETIC_MARK = "SYNTHETIC.txt"
"""The file that says of a data folder: these films were drawn by code."""

TABLES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
COLUMNS = {"Image Index": "image", "Finding Labels": "labels", "Patient ID": "patient"}
FOLDERS = ("images", "images-224/images-224", "images-224", ".")
"""Where films lie beside NIH's ``images_001/images`` and so on; of films of one name the first folder's is taken."""


@dataclass(frozen=True)
class Films:
    """Films in table order.

    Attributes:
        folder: the data folder.
        table: one row a film: ``image``, ``patient``, ``path``, ``split``.
        diseases: [N, 14] int8 in NIH's order.
    """

    folder: Path
    table: pd.DataFrame
    diseases: NDArray[np.int8]

    @property
    def findings(self) -> NDArray[np.int8]:
        """[N, 1] int8: is any finding present."""
        return any_finding(self.diseases)

    @property
    def synthetic(self) -> bool:
        return (self.folder / SYNTHETIC_MARK).exists()

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Row numbers of a split."""
        return np.flatnonzero(self.table["split"].to_numpy() == split)

    def keep(self, mask: NDArray[np.bool_]) -> "Films":
        return Films(self.folder, self.table[mask].reset_index(drop=True), self.diseases[mask])

    def summary(self) -> dict[str, object]:
        """What goes into reports and archives: folder name, films and patients per split, synthetic or not."""
        by_split = self.table.groupby("split")
        return {
            "folder": self.folder.resolve().name,
            "synthetic": self.synthetic,
            "films": by_split.size().to_dict(),
            "patients": by_split["patient"].nunique().to_dict(),
        }


def read_films(folder: Path, validation: float, seed: int, skip_unreadable: bool = False) -> Films:
    """Reads the table, finds the files, splits by patient.

    Args:
        folder: holds ``Data_Entry_2017.csv`` (or ``_v2020``) and the images.
        validation: fraction of the training patients that becomes the validation split.
        seed: of the splits.
        skip_unreadable: leave out films whose file is missing, instead of refusing.

    Raises:
        DataError: no table, missing columns or files, lists that do not fit the table, an empty split, or a patient in
            two splits.
        LabelError: an unknown finding name.
    """
    table, diseases = read_table(folder)
    table["split"] = assign_splits(folder, table, validation, seed)
    listed = table["split"].ne("").to_numpy()
    films = Films(folder, table, diseases).keep(listed)
    check_no_leak(films.table)
    films = locate(films, skip_unreadable)
    refuse_empty(films)
    return films


def refuse_empty(films: Films) -> None:
    """Raises DataError where a split has no film."""
    for split in SPLITS:
        if not len(films.rows(split)):
            raise DataError(f"{films.folder}: no film is left in the {split} split")


def check_no_leak(table: pd.DataFrame) -> None:
    """Raises DataError where one patient's films are in more than one split."""
    splits = table.groupby("patient")["split"].nunique()
    leaked = splits.index[splits > 1].tolist()
    if leaked:
        raise DataError(
            f"{len(leaked)} patients are in more than one split (first ten: {leaked[:10]}); "
            "a model would be tested on patients it was trained on. Correct the folder's two lists"
        )


def refuse(folder: Path, faults: Sequence[str], what: str) -> None:
    """Raises DataError that names the first ten faults and their number."""
    shown = "\n".join(f"  {fault}" for fault in faults[:10])
    raise DataError(
        f"{folder}: {len(faults)} {what}, the first {min(10, len(faults))}:\n{shown}\n"
        "Restore them, or go on without them: --data.skip_unreadable true"
    )


def find_table(folder: Path) -> Path:
    """NIH's metadata table; raises DataError where there is none."""
    path = next((folder / name for name in TABLES if (folder / name).exists()), None)
    if path is None:
        raise DataError(f"{folder}: neither {TABLES[0]} nor {TABLES[1]} is there")
    return path


def read_table(folder: Path) -> tuple[pd.DataFrame, NDArray[np.int8]]:
    """NIH's metadata table alone: a row a film with ``image`` and ``patient``, and [N, 14] int8 in NIH's order.

    Raises:
        DataError: no table, or a damaged one; no rows, missing columns, a row without film or patient, or a film
            listed twice.
        LabelError: an unknown finding name.
    """
    path = find_table(folder)
    raw = read_film_table(path)
    require_columns(path, raw, list(COLUMNS))
    refuse_blank(path, raw, "Patient ID")
    table = raw[list(COLUMNS)].rename(columns=COLUMNS)
    refuse_twice(path, table["image"])
    named = zip(table["labels"], table["image"], table.index, strict=True)
    rows = [parse_finding_labels(text, f"{path} row {number} ({image})") for text, image, number in named]
    return table.drop(columns="labels").reset_index(drop=True), np.stack(rows)


def locate(films: Films, skip_unreadable: bool) -> Films:
    """Fills ``path`` from the files in the folder; raises DataError for missing films unless they may be skipped."""
    wanted = set(films.table["image"])
    found: dict[str, Path] = {}
    for folder in (*sorted(films.folder.glob("images_*/images")), *(films.folder / name for name in FOLDERS)):
        here = [path for path in folder.glob("*.*") if film_name(path.name) in wanted]
        named = {film_name(path.name): path for path in here}
        if alike := [path.name for path in here if named[film_name(path.name)] is not path]:
            raise DataError(f"{folder}: {len(alike)} films have a namesake in other letters, the first: {alike[:10]}")
        found = named | found
    paths = films.table["image"].map(found)
    missing = paths.isna().to_numpy()
    if missing.any() and not skip_unreadable:
        refuse(films.folder, films.table["image"][missing].tolist(), "films are missing")
    films.table["path"] = paths
    return films.keep(~missing)
