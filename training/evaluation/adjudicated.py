"""Labels that radiologists gave to the films, instead of those that NIH mined from its reports.

The form is that of Google's *ChestX-ray14 Expert Labels: All Findings* (``all_findings_expert_labels_test_labels.csv``:
810 PA films of NIH's test list). Its labels are the majority of three radiologists (Nabulsi Z et al., Deep learning for
distinguishing normal versus abnormal chest radiographs, Scientific Reports 2021).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handlers.findings import FINDING, FINDINGS
from training.data.label_map import UNLABELLED
from training.data.tables import film_names, find_column, read_film_table, refuse_blank, refuse_twice, require_columns
from training.evaluation.predictions import Predictions
from workflows.files.text_files import DataError

IMAGE, READER, ABNORMAL = "Image ID", "Reader ID", "Abnormal"
DESCRIPTION = {IMAGE, READER, "Patient ID"}
READABLE = "readable"
"""A column of readers' feedback alone: NO where a reader could not read the film, who then says nothing of it."""
ANSWERS = {"YES": 1, "NO": 0, "1": 1, "0": 0}
"""The table of single readers has 1 and 0 under ``Abnormal``, and YES and NO under the findings."""
OURS = ("Image Index", "prob_", "key", "given", "readable", "pair", "models", "routed", "corrected", "remark")
"""What the columns begin with that ``python -m workflows.feedback export`` writes beside labels."""


@dataclass(frozen=True)
class Labels:
    """What somebody said of films.

    Attributes:
        path: the table.
        targets: [N, L] int8 in {-1, 0, 1}, a row per file name, a column per label: ``Finding`` for the table's
            ``Abnormal``, then findings in NIH's order. -1 where nobody said.
        lacking: the names that the table has no column for.
        ignored: the table's columns that are none of ours.
    """

    path: Path
    targets: pd.DataFrame
    lacking: tuple[str, ...]
    ignored: tuple[str, ...]


def read_labels(path: Path) -> Labels:
    """One row a film: ``Image ID``, ``Abnormal`` and the findings, YES or NO; in readers' feedback also nothing, where
    nobody said.

    Raises:
        DataError: no ``Image ID``, no column to score, a cell of another kind, feedback that says nothing of a film
            that could be read, or a film listed twice.
        FileNotFoundError: no such file.
    """
    table = read_film_table(path, IMAGE)
    table[IMAGE] = film_names(table[IMAGE])
    refuse_twice(path, table[IMAGE])
    if READABLE not in table.columns:
        return _labels(path, table, ANSWERS)
    labels = _labels(path, table, ANSWERS | {"": UNLABELLED})
    silent = (labels.targets.to_numpy() == UNLABELLED).all(axis=1)
    cut = table[silent & (_answers(path, table, READABLE, ANSWERS) == 1)]
    if len(cut):
        first = cut.iloc[0]
        raise DataError(f"{path} row {first.name} ({first[IMAGE]}): it is readable, and nothing is said of it")
    return labels


def read_readers(path: Path) -> dict[str, Labels]:
    """One row a film and reader -> each reader's own labels, by ``Reader ID``.

    Raises:
        DataError: as ``read_labels``; an answer that is not given, or a film listed twice for one reader.
        FileNotFoundError: no such file.
    """
    table = read_film_table(path, IMAGE)
    table[IMAGE] = film_names(table[IMAGE])
    require_columns(path, table, [READER])
    refuse_blank(path, table, READER)
    everything = _labels(path, table, ANSWERS)
    readers = {}
    for reader in sorted(table[READER].unique()):
        own = (table[READER] == reader).to_numpy()
        refuse_twice(f"{path}, reader {reader}", table[IMAGE][own])
        readers[str(reader)] = replace(everything, targets=everything.targets[own])
    return readers


def relabel(predictions: Predictions, labels: Labels) -> Predictions:
    """The predictions on the labelled films, scored against these labels, in the columns that both have.

    Raises:
        DataError: no film or no column in common.
    """
    names = [name for name in predictions.names if name in labels.targets]
    if not names:
        raise DataError(f"{labels.path} and {predictions.path} have no column in common to score")
    labelled = predictions.films(np.flatnonzero(pd.Index(predictions.images).isin(labels.targets.index)))
    if not len(labelled.images):
        raise DataError(f"{labels.path} and {predictions.path} have no film in common")
    return replace(labelled.only(names), targets=labels.targets.reindex(labelled.images)[names].to_numpy())


def _labels(path: Path, table: pd.DataFrame, known: dict[str, int]) -> Labels:
    headers = {FINDING: ABNORMAL} | {name: name for name in FINDINGS}
    found = {name: find_column(table, header) for name, header in headers.items()}
    columns = {name: column for name, column in found.items() if column}
    if not columns:
        raise DataError(f"{path}: neither {ABNORMAL!r} nor any of the 14 findings is a column")
    answers = {name: _answers(path, table, column, known) for name, column in columns.items()}
    return Labels(
        path=path,
        targets=pd.DataFrame(answers, index=table[IMAGE]),
        lacking=tuple(name for name in headers if name not in columns),
        ignored=tuple(
            column
            for column in table.columns.tolist()
            if column not in {*columns.values(), *DESCRIPTION} and not column.startswith(OURS)
        ),
    )


def _answers(path: Path, table: pd.DataFrame, column: str, known: dict[str, int]) -> NDArray[np.int8]:
    answers = table[column].str.upper().map(known)
    wrong = table[answers.isna()]
    if len(wrong):
        row = wrong.iloc[0]
        raise DataError(f"{path} row {row.name} ({row[IMAGE]}), column {column!r}: {row[column]!r} is not YES or NO")
    return answers.to_numpy().astype(np.int8)
