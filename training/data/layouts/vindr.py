"""VinDr-CXR (Nguyen et al., Scientific Data 2022): labels by reader of PA films that lie in ``train/`` and ``test/``.

Three readers have labelled each training film: a label is present where more of them say so than not, absent where
fewer do, and not labelled where as many do. A test film's labels are its readers' consensus. Where the folder has no
``image_labels_*.csv``, the boxes are read (``annotations_*.csv``; ``train.csv`` of Kaggle's copy): a reader's labels
are then the classes that the reader drew a box for, and all other classes of that table are absent.
"""

from pathlib import Path

import pandas as pd

from training.data.layouts.source import Source, Uncertain, first_of, labels_of, rows_of
from training.data.tables import read_csv, refuse_blank, refuse_twice, require_columns
from workflows.files.text_files import read_header

FILM, READER, CLASS = "image_id", "rad_id", "class_name"
DESCRIPTION = {FILM, READER, CLASS, "class_id", "x_min", "y_min", "x_max", "y_max"}
NO_PATIENTS = (
    "VinDr-CXR names no patients: each film is taken for a patient of its own, so films of one person may be in two "
    "splits, and intervals are over films"
)


def tables(folder: Path) -> list[Path]:
    found = []
    for split in ("train", "test"):
        kinds = (f"image_labels_{split}.csv", f"annotations_{split}.csv")
        found += first_of(folder, *(f"{below}{kind}" for kind in kinds for below in ("annotations/", "")))
    if not found:
        found = [path for path in first_of(folder, "train.csv") if {FILM, CLASS} <= set(read_header(path))]
    return found


def read(paths: list[Path], uncertain: Uncertain) -> Source:
    """Raises DataError: a damaged table, a film twice for one reader or in both tables, a label that is no number."""
    parts = [_read(path, uncertain, len(paths) > 1) for path in paths]
    table = pd.concat([part.table for part in parts])
    refuse_twice(paths[0].parent, table["image"])
    labels = pd.concat([part.labels for part in parts]).fillna(-1).astype("int8")
    return Source(table, labels, (NO_PATIENTS,))


def _read(path: Path, uncertain: Uncertain, both: bool) -> Source:
    raw = read_csv(path).rename(columns={"rad_ID": READER, "Other disease": "Other diseases"})
    require_columns(path, raw, [FILM])
    refuse_blank(path, raw, FILM)
    raw[READER] = raw.get(READER, "consensus")
    if CLASS in raw:
        labels, films = _labels_of_boxes(raw)
    else:
        refuse_twice(path, raw[FILM] + " (reader " + raw[READER] + ")")
        columns = [column for column in raw.columns if column not in DESCRIPTION]
        labels, films = labels_of(path, raw, columns, uncertain), raw[FILM]
    voted = _majority(labels, films)
    split = "test" if "_test" in path.name else "train"
    rows = pd.DataFrame({FILM: voted.index}, index=raw.index[~raw[FILM].duplicated()])
    table = rows_of(rows, image=FILM, file=f"{split}/" + rows[FILM], patient=FILM)
    return Source(table.assign(split=split if both else "", view="PA"), voted.set_axis(rows.index))


def _labels_of_boxes(raw: pd.DataFrame) -> "tuple[pd.DataFrame, pd.Series[str]]":
    """A row a film and reader, in the table's order: 1 for each class with a box, 0 for the others."""
    drawn = pd.crosstab([raw[FILM], raw[READER]], raw[CLASS]).clip(upper=1)
    drawn = drawn.reindex(pd.MultiIndex.from_frame(raw[[FILM, READER]].drop_duplicates())).astype("int8")
    return drawn.reset_index(drop=True), drawn.index.to_frame(index=False)[FILM]


def _majority(labels: pd.DataFrame, films: "pd.Series[str]") -> pd.DataFrame:
    """[R, L] labels of a film and reader each -> [N, L], by film, in the order in which the films come."""
    ballots = (labels == 1).astype("int16") - (labels == 0).astype("int16")
    votes = ballots.groupby(films.to_numpy(), sort=False).sum()
    return (votes > 0).astype("int8") - (votes == 0).astype("int8")
