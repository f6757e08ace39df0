"""A data folder's films: what its tables say, where the films lie, and which patient is in which split."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from logging import getLogger
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handlers.findings import FINDINGS
from training.data.film_files import FilmFiles
from training.data.label_map import UNLABELLED, targets_of
from training.data.layouts.recognise import read_source
from training.data.layouts.source import Layout, Uncertain
from training.data.splits import SPLITS, Split, assign_splits
from training.fit.config import DataConfig
from workflows.files.text_files import DataError

SYNTHETIC_MARK = "SYNTHETIC.txt"
"""The file that says of a data folder: these films were drawn by code."""

logger = getLogger(__name__)


@dataclass(frozen=True)
class Films:
    """Films in table order. A target is 1 (present), 0 (absent) or -1 (not labelled).

    Attributes:
        folder: the data folder.
        table: one row a film: ``image``, ``file``, ``patient``, ``split``, ``sex``, ``age``, ``view``, and ``path``
            once its file is found.
        diseases: [N, 14] int8 in NIH's order.
        findings: [N, 1] int8: is any finding present (``training.data.label_map.targets_of``).
        layout: of the folder.
        remarks: what its reader left out, or took for something.
        unmapped: the data set's labels that are none of the 14, with the number of films that show each.
    """

    folder: Path
    table: pd.DataFrame
    diseases: NDArray[np.int8]
    findings: NDArray[np.int8]
    layout: Layout = "nih"
    remarks: tuple[str, ...] = ()
    unmapped: dict[str, int] = field(default_factory=dict)

    @property
    def synthetic(self) -> bool:
        return (self.folder / SYNTHETIC_MARK).exists()

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Row numbers of a split."""
        return np.flatnonzero(self.table["split"].to_numpy() == split)

    def keep(self, mask: NDArray[np.bool_]) -> "Films":
        table = self.table[mask].reset_index(drop=True)
        return replace(self, table=table, diseases=self.diseases[mask], findings=self.findings[mask])

    def unlabelled(self, rows: NDArray[np.int64]) -> list[str]:
        """The findings that none of these films is labelled for."""
        return [name for name, of in zip(FINDINGS, self.diseases[rows].T, strict=True) if not (of >= 0).any()]

    def without_labels(self, names: Sequence[str]) -> "Films":
        """The same films, as if nobody had labelled them for these findings."""
        return replace(self, diseases=np.where(np.isin(FINDINGS, names), UNLABELLED, self.diseases).astype(np.int8))

    def summary(self) -> dict[str, object]:
        """What goes into reports and archives: folder name, layout, films and patients per split, synthetic or not."""
        by_split = self.table.groupby("split")
        return {
            "folder": self.folder.resolve().name,
            "layout": self.layout,
            "synthetic": self.synthetic,
            "films": by_split.size().to_dict(),
            "patients": by_split["patient"].nunique().to_dict(),
            "unlabelled": {split: self.unlabelled(rows) for split in SPLITS if len(rows := self.rows(split))},
        }


def configured_films(data: DataConfig) -> Films:
    """``read_films`` as a training configuration's ``data`` says."""
    folder, skip = Path(data.folder), data.skip_unreadable
    return read_films(folder, data.validation, data.split_seed, skip, data.layout, data.uncertain)


def read_films(
    folder: Path,
    validation: float,
    seed: int,
    skip_unreadable: bool = False,
    layout: Layout | None = None,
    uncertain: Uncertain = "ignore",
) -> Films:
    """Reads the tables, finds the files, splits by patient.

    Args:
        folder: holds the tables of a layout, and the images.
        validation: fraction of the training patients that becomes the validation split.
        seed: of the splits.
        skip_unreadable: leave out films whose file is missing, instead of refusing.
        layout: of the folder; by what lies in it unless given.
        uncertain: what a label -1 is taken for.

    Raises:
        DataError: no table, missing columns or files, lists that do not fit the table, an empty split, or a patient in
            two splits.
        LabelError: an unknown finding name.
    """
    films = read_table(folder, layout, uncertain)
    for remark in films.remarks:
        logger.warning("%s: %s", folder, remark)
    return split_films(films, validation, seed, skip_unreadable)


def split_films(films: Films, validation: float, seed: int, skip_unreadable: bool) -> Films:
    """What ``read_films`` makes of a table's films; the table itself gets their splits. Raises DataError likewise."""
    films.table["split"] = assign_splits(films.folder, films.table, validation, seed)
    films = films.keep(films.table["split"].ne("").to_numpy())
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
            "a model would be tested on patients it was trained on. Correct the folder's lists, or its tables' splits"
        )


def refuse(folder: Path, faults: Sequence[str], what: str) -> None:
    """Raises DataError that names the first ten faults and their number."""
    shown = "\n".join(f"  {fault}" for fault in faults[:10])
    raise DataError(
        f"{folder}: {len(faults)} {what}, the first {min(10, len(faults))}:\n{shown}\n"
        "Restore them, or go on without them: --data.skip_unreadable true"
    )


def read_table(folder: Path, layout: Layout | None = None, uncertain: Uncertain = "ignore") -> Films:
    """What a folder's tables say of all its films, before a file is looked for; ``split`` is "" where they give none.

    Raises:
        DataError: no layout's tables or those of two, or a damaged one; no rows, missing columns, a row without film or
            patient, a film listed twice, or a label that is no number.
        LabelError: an unknown finding name.
    """
    name, source = read_source(folder, layout, uncertain)
    targets = targets_of(source.labels)
    remarks = source.remarks
    if contradictory := int(targets.contradictory.sum()):
        remarks += (f"{contradictory} films are said to show nothing and a finding: the finding counts",)
    if not len(source.table):
        raise DataError(f"{folder}: no film is left; {'; '.join(remarks)}")
    table = source.table.reset_index(drop=True)
    return Films(folder, table, targets.diseases, targets.findings, name, remarks, targets.unmapped)


def locate(films: Films, skip_unreadable: bool) -> Films:
    """Fills ``path`` from the files in the folder; raises DataError for missing films unless they may be skipped."""
    paths = films.table["file"].map(FilmFiles(films.folder, films.table["file"].tolist()).found)
    missing = paths.isna().to_numpy()
    if missing.any() and not skip_unreadable:
        refuse(films.folder, films.table["image"][missing].tolist(), "films are missing")
    films.table["path"] = paths
    return films.keep(~missing)
