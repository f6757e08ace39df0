"""NIH ChestX-ray14 as Kaggle and NIH give it: ``Data_Entry_2017.csv``, films by name, official lists beside it."""

from pathlib import Path

import numpy as np
import pandas as pd

from handlers.findings import FINDINGS, NO_FINDING
from training.data.labels import parse_finding_labels
from training.data.layouts.source import Source, Uncertain, rows_of
from training.data.tables import IMAGE, film_names, read_film_table, refuse_blank, refuse_twice, require_columns

TABLES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
LABELS, PATIENT = "Finding Labels", "Patient ID"


def tables(folder: Path) -> list[Path]:
    return [folder / name for name in TABLES if (folder / name).exists()][:1]


def read(paths: list[Path], uncertain: Uncertain) -> Source:
    """Every film has a label for all 14: what is not named is absent (Wang et al., CVPR 2017). No label is uncertain.

    Raises:
        DataError: a damaged table; no rows, missing columns, a row without film or patient, or a film listed twice.
        LabelError: an unknown finding name.
    """
    [path] = paths
    raw = read_film_table(path)
    raw[IMAGE] = film_names(raw[IMAGE])
    require_columns(path, raw, [IMAGE, LABELS, PATIENT])
    refuse_blank(path, raw, PATIENT)
    refuse_twice(path, raw[IMAGE])
    named = zip(raw[LABELS], raw[IMAGE], raw.index, strict=True)
    diseases = np.stack([parse_finding_labels(text, f"{path} row {number} ({image})") for text, image, number in named])
    none = ~diseases.any(axis=1, keepdims=True)
    labels = np.concatenate([diseases, none], axis=1).astype(np.int8)
    described = {"patient": PATIENT, "sex": "Patient Gender", "age": "Patient Age", "view": "View Position"}
    table = rows_of(raw, image=raw[IMAGE], file=raw[IMAGE], **described)
    return Source(table, pd.DataFrame(labels, raw.index, [*FINDINGS, NO_FINDING]))
