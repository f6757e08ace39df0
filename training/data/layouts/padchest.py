"""PadChest (Bustos et al., Medical Image Analysis 2020): one table, whose ``Labels`` are a list in Python's notation.

A film's labels are all that its report names, so that what is not among them is absent, but for reports that say
*unchanged* or *suboptimal study*, which do not repeat what an earlier film showed, or could not see it: on those
nothing is known to be absent. A film without labels is not labelled; one labelled *exclude* is left out.
"""

import ast
from pathlib import Path

import numpy as np
import pandas as pd

from training.data.label_map import MAP, UNLABELLED
from training.data.layouts.source import Source, Uncertain, rows_of, tables_with
from training.data.tables import film_names, read_film_table, refuse_blank, refuse_twice, require_columns
from workflows.files.text_files import DataError

FILM, FOLDER, PATIENT, VIEW, LABELS = "ImageID", "ImageDir", "PatientID", "Projection", "Labels"
BORN, TAKEN, SEX = "PatientBirth", "StudyDate_DICOM", "PatientSex_DICOM"
OPEN = ("unchanged", "suboptimal study")
EXCLUDED = "exclude"


def tables(folder: Path) -> list[Path]:
    return tables_with(folder, FILM, PATIENT, VIEW, LABELS)


def read(paths: list[Path], uncertain: Uncertain) -> Source:
    """No label is uncertain. Raises DataError: a damaged table, a film listed twice, or ``Labels`` that are no list."""
    [path] = paths
    raw = read_film_table(path, FILM)
    raw[FILM] = film_names(raw[FILM])
    require_columns(path, raw, [PATIENT, VIEW, LABELS])
    refuse_blank(path, raw, PATIENT)
    refuse_twice(path, raw[FILM])
    named = [_names(text, f"{path} row {number}") for number, text in raw[LABELS].items()]
    file = (raw[FOLDER] + "/" if FOLDER in raw else "") + raw[FILM]
    table = rows_of(raw, image=FILM, file=file, patient=PATIENT, view=VIEW, sex=SEX).assign(age=_ages(raw))
    kept = np.array([EXCLUDED not in names for names in named])
    return Source(table, _matrix(named, raw.index)).only(kept, f"labelled {EXCLUDED!r}").frontal()


def _names(text: str, where: str) -> list[str]:
    if text in ("", "nan"):
        return []
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(
            f"{where}, column {LABELS!r}: not a list of labels such as ['cardiomegaly', 'pleural effusion']"
        )
    return [" ".join(name.lower().split()) for name in names if name.strip()]


def _matrix(named: list[list[str]], index: "pd.Index[int]") -> pd.DataFrame:
    columns = sorted({*MAP, *(name for names in named for name in names)} - {*OPEN, EXCLUDED})
    place = {name: column for column, name in enumerate(columns)}
    labels = np.zeros((len(named), len(columns)), np.int8)
    for row, names in enumerate(named):
        if not names or set(names) & set(OPEN):
            labels[row] = UNLABELLED
        labels[row, [place[name] for name in names if name in place]] = 1
    return pd.DataFrame(labels, index, columns)


def _ages(raw: pd.DataFrame) -> "pd.Series[str]":
    """Years between the year of birth and that of the film; "" where either is missing."""
    if BORN not in raw or TAKEN not in raw:
        return pd.Series("", raw.index, dtype=str)
    years = pd.to_numeric(raw[TAKEN].str[:4], errors="coerce") - pd.to_numeric(raw[BORN], errors="coerce")
    return years.map(lambda age: "" if pd.isna(age) else f"{age:.0f}")
