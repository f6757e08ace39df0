"""CheXpert (Irvin et al., AAAI 2019): ``train.csv`` and ``valid.csv``, which name films by path.

Labels are 1, 0, -1 (uncertain) or nothing: the report does not mention it. Nothing is *not labelled* here. Irvin et al.
count it with the negatives (table 1), but a report's silence is no reading: what their labeller found negated is 0
already, and on films with *No Finding* 1, where it found none present and none uncertain, the findings are absent.

``valid.csv``, which three radiologists read, is the test split; validation is drawn from the patients of ``train.csv``.
"""

import re
from pathlib import Path

import pandas as pd

from training.data.layouts.source import Source, Uncertain, labels_of, rows_of, tables_with
from training.data.tables import read_csv, refuse_blank, refuse_twice, require_columns
from workflows.files.text_files import DataError, film_path

PATH, SEX, AGE, SIDE, VIEW = DESCRIPTION = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
SPLITS = {"train.csv": "train", "valid.csv": "test"}
ROOT = re.compile(r"^CheXpert-v1\.0[^/]*/")
PATIENT = re.compile(r"(?:^|/)(patient\d+)/")


def tables(folder: Path) -> list[Path]:
    return [path for path in tables_with(folder, PATH, SIDE) if path.name.removesuffix(".gz") in SPLITS]


def read(paths: list[Path], uncertain: Uncertain) -> Source:
    """Raises DataError: a damaged table, a path without its patient, or a label that is no number."""
    parts = [_read(path, uncertain, SPLITS[path.name.removesuffix(".gz")] if paths[1:] else "") for path in paths]
    labels = pd.concat([part.labels for part in parts]).fillna(-1).astype("int8")
    table = pd.concat([part.table for part in parts])
    refuse_twice(paths[0].parent, table["image"])
    return Source(table, labels, tuple(remark for part in parts for remark in part.remarks))


def _read(path: Path, uncertain: Uncertain, split: str) -> Source:
    raw = read_csv(path)
    require_columns(path, raw, [PATH, SIDE])
    refuse_blank(path, raw, PATH)
    images = raw[PATH].map(film_path).str.replace(ROOT, "", regex=True)
    patients = images.str.extract(PATIENT)[0]
    if patients.isna().any():
        raise DataError(f"{path} row {patients.index[patients.isna()][0]}: its path has no folder 'patient…'")
    table = rows_of(raw, image=images, file=images, patient=patients, sex=SEX, age=AGE, view=VIEW)
    columns = [column for column in raw.columns if column not in DESCRIPTION]
    every = Source(table.assign(split=split), labels_of(path, raw, columns, uncertain))
    return every.only(raw[SIDE].str.lower().eq("frontal").to_numpy(), f"{path.name} calls them lateral")
