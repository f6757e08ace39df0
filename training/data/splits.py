"""Which films are for training, validation and test: by a table, by official lists, or drawn; always by patient."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit

from training.data.tables import known_films, read_film_list
from workflows.files.text_files import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

TRAIN_LISTS = ("train_val_list.txt", "train_val_list_NIH.txt")
TEST_LISTS = ("test_list.txt", "test_list_NIH.txt")
"""NIH's names, and those that Kaggle's 224-px copy gives the same lists."""
TEST_FRACTION = 0.2
"""Of the patients, where a folder has no official lists."""
MOST_UNMATCHED = 0.1
"""Share of the films of lists or table, whichever are fewer, that may have found no partner on either side."""

logger = logging.getLogger(__name__)


def assign_splits(folder: Path, table: pd.DataFrame, validation: float, seed: int) -> "pd.Series[str]":
    """Each film's split; ``""`` where tables or lists give splits, and none to this film.

    Test and validation are drawn by patient and seed where neither table nor lists give them.

    Args:
        folder: with both lists, or none.
        table: ``image``, ``patient`` and ``split``.
        validation: share of the training patients, above 0 and below 1.
        seed: of the draws.

    Raises:
        DataError: what ``given_splits`` raises; too few patients; or a share that leaves a split empty.
    """
    split = given_splits(folder, table)
    if split.eq("").all():
        split[:] = "train"
    drawn: tuple[tuple[Split, float], ...] = (("test", TEST_FRACTION), ("validation", validation))
    for name, fraction in drawn:
        training = np.flatnonzero(split == "train")
        if not split.eq(name).any() and len(training):
            split[_draw_patients(folder, table, training, fraction, seed, name)] = name
    return split


def given_splits(folder: Path, table: pd.DataFrame) -> "pd.Series[str]":
    """Each film's split by the table itself, else by the folder's two lists; ``""`` where they say nothing of it.

    Raises:
        DataError: one list without the other; a list of which nothing, or too little, is in the table; a film in both.
    """
    if table["split"].ne("").any():
        return table["split"].copy()
    train, test = (_find(folder, names) for names in (TRAIN_LISTS, TEST_LISTS))
    if train and test:
        return _official(folder, table, train, test)
    if there := train or test:
        raise DataError(f"{there} is there, but not its counterpart: give both lists or none")
    return pd.Series("", index=table.index)


def _find(folder: Path, names: Sequence[str]) -> Path | None:
    # lexists: a link that leads nowhere is a list that is missing, not a folder without lists.
    return next((folder / name for name in names if os.path.lexists(folder / name)), None)


def _official(folder: Path, table: pd.DataFrame, train: Path, test: Path) -> "pd.Series[str]":
    split = pd.Series("", index=table.index)
    entries, strange = 0, 0
    for name, path in (("train", train), ("test", test)):
        films = _films_of_list(path, table["image"])
        unknown = pd.Index(films).difference(pd.Index(table["image"]), sort=False).tolist()
        if len(unknown) == len(films):
            raise DataError(f"{path}: none of its {len(films)} films is in the table, the first: {films[:10]}")
        if unknown:
            logger.warning("%s: %s", path, _counted(unknown, len(films), "films are not in the table"))
        entries, strange = entries + len(films), strange + len(unknown)
        listed = table["image"].isin(films)
        both = table["image"][listed & split.ne("")].tolist()
        if both:
            raise DataError(f"{folder}: {len(both)} films are in both lists, the first: {both[:10]}")
        split[listed] = name
    _compare(folder, table["image"][split.eq("")].tolist(), len(table), strange, entries)
    return split


def _films_of_list(path: Path, images: "pd.Series[str]") -> list[str]:
    entries = known_films(read_film_list(path), images)
    films = list(dict.fromkeys(entries))
    if len(films) < len(entries):
        repeated = pd.Index(entries)[pd.Index(entries).duplicated()].tolist()
        logger.warning("%s: %s", path, _counted(repeated, len(entries), "films are listed again"))
    return films


def _compare(folder: Path, unlisted: list[str], films: int, strange: int, entries: int) -> None:
    """Says which films of the table are in no list, and refuses where they may be those that the lists misname.

    Entries alone are harmless: NIH's lists beside some of its films. So are films alone: lists of some films beside
    NIH's whole table. Where both lack a partner, as many films as there are of the fewer may be lost by their spelling.
    """
    if not unlisted:
        return
    said = _counted(unlisted, films, "films of the table are in neither list and take no part")
    lost = min(len(unlisted), strange)
    if lost > MOST_UNMATCHED * min(films, entries):
        raise DataError(
            f"{folder}: {said}, while {strange} of the {entries} films of the lists are not in the table. "
            f"More than {MOST_UNMATCHED:.0%} are no accident: are the names spelt alike on both sides?"
        )
    logger.warning("%s: %s", folder, said)


def _counted(names: list[str], of: int, what: str) -> str:
    return f"{len(names)} of {of} {what}, the first: {names[:10]}"


def _draw_patients(
    folder: Path, table: pd.DataFrame, rows: NDArray[np.int64], fraction: float, seed: int, split: Split
) -> NDArray[np.int64]:
    if not 0.0 < fraction < 1.0:
        raise DataError(f"data.validation is {fraction:g}: a share of the training patients is wanted, such as 0.1")
    patients = table["patient"].to_numpy()[rows]
    number = len(set(patients))
    if number < 2:
        raise DataError(
            f"{folder}: {number} patient to draw the {split} split from, where two at least are needed to split by "
            "patient: add films of other patients"
        )
    draw = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    try:
        return np.asarray(rows[next(draw.split(rows, groups=patients))[1]])
    except ValueError as fault:
        raise DataError(
            f"{folder}: {fraction:g} of {number} patients for the {split} split leaves none for training"
        ) from fault
