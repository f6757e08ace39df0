"""The NIH ChestX-ray14 layout: the table, where the films lie, and which patient is in which split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit

from training.labels import any_finding, parse_finding_labels

SYNTHETIC_MARK = "SYNTHETIC.txt"
"""The file that says of a data folder: these films were drawn by code."""

TABLES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
COLUMNS = {"Image Index": "image", "Finding Labels": "labels", "Patient ID": "patient"}
TEST_FRACTION = 0.2
"""Of the patients, where a folder has no official lists."""

Split = Literal["train", "validation", "test"]


class DataError(ValueError):
    """A data folder that cannot be trained on; the message says what is wrong and what to do."""


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
        DataError: no table, missing columns or files, an empty split, or a patient in two splits.
        LabelError: an unknown finding name.
    """
    table, diseases = read_table(folder)
    table["split"] = _assign_splits(folder, table, validation, seed)
    listed = table["split"].ne("").to_numpy()
    films = Films(folder, table, diseases).keep(listed)
    check_no_leak(films.table)
    films = locate(films, skip_unreadable)
    for split in ("train", "validation", "test"):
        if not len(films.rows(split)):
            raise DataError(f"{folder}: no film is left in the {split} split")
    return films


def check_no_leak(table: pd.DataFrame) -> None:
    """Raises DataError where one patient's films are in more than one split."""
    splits = table.groupby("patient")["split"].nunique()
    leaked = splits.index[splits > 1].tolist()
    if leaked:
        raise DataError(
            f"{len(leaked)} patients are in more than one split (first ten: {leaked[:10]}); "
            "a model would be tested on patients it was trained on. Correct train_val_list.txt and test_list.txt"
        )


def refuse(folder: Path, faults: Sequence[str], what: str) -> None:
    """Raises DataError that names the first ten faults and their number."""
    shown = "\n".join(f"  {fault}" for fault in faults[:10])
    raise DataError(
        f"{folder}: {len(faults)} {what}, the first {min(10, len(faults))}:\n{shown}\n"
        "Restore them, or go on without them: --data.skip_unreadable true"
    )


def read_table(folder: Path) -> tuple[pd.DataFrame, NDArray[np.int8]]:
    """NIH's metadata table alone: a row a film with ``image`` and ``patient``, and [N, 14] int8 in NIH's order.

    Raises:
        DataError: no table, no rows, missing columns, or a film listed twice.
        LabelError: an unknown finding name.
    """
    path = next((folder / name for name in TABLES if (folder / name).exists()), None)
    if path is None:
        raise DataError(f"{folder}: neither {TABLES[0]} nor {TABLES[1]} is there")
    # index_col=False: NIH's header has fewer names than its rows have fields (a comma inside two of them).
    raw = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, usecols=lambda name: name in COLUMNS)
    missing = [name for name in COLUMNS if name not in raw]
    if missing:
        raise DataError(f"{path}: the columns {missing} are missing")
    table = raw.rename(columns=COLUMNS)
    if not len(table):
        raise DataError(f"{path}: the table has no rows")
    twice = table["image"][table["image"].duplicated()].tolist()
    if twice:
        raise DataError(f"{path}: {len(twice)} films are listed twice, the first: {twice[:10]}")
    named = zip(table["labels"], table["image"], strict=True)
    rows = [parse_finding_labels(text, f"{path.name} row {i} ({image})") for i, (text, image) in enumerate(named, 2)]
    return table[["image", "patient"]].copy(), np.stack(rows)


def _assign_splits(folder: Path, table: pd.DataFrame, validation: float, seed: int) -> pd.Series:
    """Official lists where both are present, else patients by seed; films in no list get an empty split."""
    split = pd.Series("", index=table.index)
    lists = {"train": folder / "train_val_list.txt", "test": folder / "test_list.txt"}
    present = [path.name for path in lists.values() if path.exists()]
    if len(present) == 1:
        raise DataError(f"{folder}: {present[0]} is there, but not its counterpart; give both lists or none")
    if present:
        for name, path in lists.items():
            listed = table["image"].isin(path.read_text().split())
            both = table["image"][listed & split.ne("")].tolist()
            if both:
                raise DataError(f"{folder}: {len(both)} films are in both lists, the first: {both[:10]}")
            split[listed] = name
    else:
        split[:] = "train"
        split[_draw_patients(table, split.index.to_numpy(), TEST_FRACTION, seed)] = "test"
    training = np.flatnonzero(split == "train")
    if not len(training):
        raise DataError(f"{folder}: no film of the table is in train_val_list.txt")
    split[_draw_patients(table, training, validation, seed)] = "validation"
    return split


def _draw_patients(table: pd.DataFrame, rows: NDArray[np.int64], fraction: float, seed: int) -> NDArray[np.int64]:
    patients = table["patient"].to_numpy()[rows]
    if len(set(patients)) < 2:
        raise DataError("at least two patients are needed to split by patient")
    draw = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    return np.asarray(rows[next(draw.split(rows, groups=patients))[1]])


def locate(films: Films, skip_unreadable: bool) -> Films:
    """Fills ``path`` from the files in the folder; raises DataError for missing films unless they may be skipped."""
    folders = [*sorted(films.folder.glob("images_*/images")), films.folder / "images", films.folder]
    found = {path.name: path for folder in reversed(folders) if folder.is_dir() for path in folder.glob("*.*")}
    paths = films.table["image"].map(found)
    missing = paths.isna().to_numpy()
    if missing.any() and not skip_unreadable:
        refuse(films.folder, films.table["image"][missing].tolist(), "films are missing")
    films.table["path"] = paths
    return films.keep(~missing)
