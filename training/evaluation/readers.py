"""Each radiologist beside the model, on the same films and against the same labels.

The form is that of Google's ``all_findings_expert_labels_test_individual_readers.csv``: five readers of 810 films. The
labels are the majority of three of the five, so that each of the three is measured against a label that is partly his
own, which favours him; the other two took no part (README of the data set; Nabulsi Z et al., Scientific Reports 2021).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from training.evaluation.adjudicated import Labels
from training.evaluation.metrics import rates
from training.evaluation.predictions import Predictions
from workflows.files.text_files import DataError, read_json

VOTED = {"4343882785": True, "4343883593": True, "4343883996": True, "4343882583": False, "4343880271": False}
"""Google's five readers, and which of them the labels were made from."""


Rates = dict[str, float | None]
"""``sensitivity`` and ``specificity`` at one operating point; None where there is no film to count."""


@dataclass(frozen=True)
class Comparison:
    """One reader and the model on the films that the reader read.

    Attributes:
        name: ``Finding`` or a finding.
        reader: the reader's id.
        voted: whether the labels were made from this reader's; None where that is not known.
        films: number of them.
        positives: of these, by the labels.
        threshold: the model's own, or None where the model stands at the reader's specificity, on its ROC curve.
        by_reader: the reader's rates.
        by_model: the model's. Without a threshold: the best sensitivity of any threshold whose specificity is at
            least the reader's.
    """

    name: str
    reader: str
    voted: bool | None
    films: int
    positives: int
    threshold: float | None
    by_reader: Rates
    by_model: Rates


def read_thresholds(path: Path, names: Sequence[str]) -> dict[str, float]:
    """A run's ``thresholds.json``: a number in [0, 1] for each name.

    Raises:
        DataError: not a JSON object, or a name without such a number.
        FileNotFoundError: no such file.
    """
    known = read_json(path)
    wrong = [name for name in names if not _is_probability(known.get(name))]
    if wrong:
        raise DataError(f"{path}: no threshold in [0, 1] for {', '.join(wrong)}")
    return {name: float(known[name]) for name in names}


def compare_readers(
    predictions: Predictions, readers: Mapping[str, Labels], thresholds: Mapping[str, float] | None
) -> list[Comparison]:
    """Each reader and the model against the predictions' targets, finding by finding.

    Args:
        predictions: as ``relabel`` gives them; the scores are taken as they stand, no gate applied.
        readers: by id.
        thresholds: the model's; without them it stands at each reader's specificity.

    Raises:
        DataError: the readers read none of the films.
    """
    comparisons = [
        _compare(predictions.only([name]), reader, labels.targets[name], thresholds)
        for name in predictions.names
        for reader, labels in readers.items()
        if name in labels.targets
    ]
    read = [comparison for comparison in comparisons if comparison.films]
    if not read:
        raise DataError(f"{predictions.path}: the readers' table has none of its films and findings")
    return read


def _compare(
    predictions: Predictions, reader: str, answers: "pd.Series[int]", thresholds: Mapping[str, float] | None
) -> Comparison:
    read = pd.Index(predictions.images).isin(answers.index) & (predictions.targets[:, 0] >= 0)
    own = predictions.films(np.flatnonzero(read))
    name, targets, scores = own.names[0], own.targets[:, 0], own.scores[:, 0]
    by_reader = _rates(targets, answers.reindex(own.images).to_numpy() == 1)
    threshold = thresholds[name] if thresholds else None
    if threshold is None:
        by_model = _at_specificity(targets, scores, by_reader["specificity"])
    else:
        by_model = _rates(targets, scores >= threshold)
    return Comparison(
        name=name,
        reader=reader,
        voted=VOTED.get(reader),
        films=len(targets),
        positives=int(targets.sum()),
        threshold=threshold,
        by_reader=by_reader,
        by_model=by_model,
    )


def _rates(targets: NDArray[np.int8], called: NDArray[np.bool_]) -> Rates:
    of = rates(targets, called)
    return {name: of[name] for name in ("sensitivity", "specificity")}


def _at_specificity(targets: NDArray[np.int8], scores: NDArray[np.float64], wanted: float | None) -> Rates:
    if wanted is None or not targets.any():
        return {"sensitivity": None, "specificity": None}
    false_positive, true_positive, _ = roc_curve(targets, scores, drop_intermediate=False)
    # Half a film of slack: both are counts over the same number of negatives, but rounded apart.
    allowed = 1 - wanted + 0.5 / (targets == 0).sum()
    best = int(np.flatnonzero(false_positive <= allowed)[-1])
    return {"sensitivity": float(true_positive[best]), "specificity": float(1 - false_positive[best])}


def _is_probability(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
