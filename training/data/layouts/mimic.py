"""MIMIC-CXR-JPG (Johnson et al., arXiv:1901.07042): a table of films, one of each study's labels, one of splits.

The labels are CheXpert's (``-chexpert.csv``), or NegBio's where the folder has only those, with the same names and
values: 1, 0, -1 (uncertain), and nothing, which is *not labelled* here, as in ``training.data.layouts.chexpert``.
"""

from pathlib import Path

import pandas as pd

from training.data.label_map import UNLABELLED
from training.data.layouts.source import Source, Uncertain, labels_of, rows_of
from training.data.tables import read_csv, refuse_blank, refuse_twice, require_columns
from workflows.files.text_files import DataError

FILM, PATIENT, STUDY, VIEW, SPLIT = "dicom_id", "subject_id", "study_id", "ViewPosition", "split"
SPLITS = {"train": "train", "validate": "validation", "test": "test"}
KINDS = ("metadata", "chexpert", "negbio", "split")


def tables(folder: Path) -> list[Path]:
    found = {kind: sorted(folder.glob(f"mimic-cxr-*-{kind}.csv*"))[:1] for kind in KINDS}
    return [path for paths in found.values() for path in paths] if found["metadata"] else []


def read(paths: list[Path], uncertain: Uncertain) -> Source:
    """Raises DataError: no labels, a damaged table, a film or a study listed twice, or a label that is no number."""
    of = {kind: path for path in paths for kind in KINDS if f"-{kind}.csv" in path.name}
    path, labelled = of["metadata"], of.get("chexpert") or of.get("negbio")
    if labelled is None:
        raise DataError(f"{path.parent}: neither mimic-cxr-…-chexpert.csv nor mimic-cxr-…-negbio.csv is beside {path}")
    raw, studies = read_csv(path), read_csv(labelled)
    require_columns(path, raw, [FILM, PATIENT, STUDY, VIEW])
    require_columns(labelled, studies, [STUDY])
    for column in (FILM, PATIENT, STUDY):
        refuse_blank(path, raw, column)
    refuse_twice(path, raw[FILM])
    refuse_twice(labelled, studies[STUDY])
    columns = [column for column in studies.columns if column not in (PATIENT, STUDY)]
    labels = labels_of(labelled, studies, columns, uncertain).set_axis(studies[STUDY])
    lacking = int((~raw[STUDY].isin(labels.index)).sum())
    labels = labels.reindex(raw[STUDY], fill_value=UNLABELLED).set_axis(raw.index)
    folders = "files/p" + raw[PATIENT].str[:2] + "/p" + raw[PATIENT] + "/s" + raw[STUDY] + "/"
    table = rows_of(raw, image=FILM, file=folders + raw[FILM], patient=PATIENT, view=VIEW)
    if "split" in of:
        table["split"] = _splits(of["split"], raw[FILM])
    remarks = [f"labels are those of {labelled.name}"]
    if lacking:
        remarks.append(f"{lacking} films are of studies without a row in {labelled.name}, and not labelled")
    return Source(table, labels, tuple(remarks)).frontal()


def _splits(path: Path, films: "pd.Series[str]") -> "pd.Series[str]":
    raw = read_csv(path)
    require_columns(path, raw, [FILM, SPLIT])
    refuse_twice(path, raw[FILM])
    wrong = raw[~raw[SPLIT].isin(SPLITS)]
    if len(wrong):
        raise DataError(f"{path} row {wrong.index[0]}, column {SPLIT!r}: none of {', '.join(SPLITS)}")
    return films.map(raw.set_index(FILM)[SPLIT].map(SPLITS)).fillna("")
