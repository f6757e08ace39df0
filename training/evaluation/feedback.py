"""What readers said of films that were served, as ``python -m workflows.feedback export`` writes it, to fit on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handlers.cascade import Cascade
from handlers.findings import FINDING, FINDINGS, LABELS
from training.data.label_map import UNLABELLED
from training.data.tables import IMAGE, read_film_table, require_columns
from training.evaluation.adjudicated import read_labels
from training.evaluation.fit_cascade import Labelled
from training.evaluation.predictions import probabilities
from workflows.files.text_files import DataError

PAIR, ROUTED = "pair", "routed"
MIN_FILMS = 30
"""That readers have judged for stage 1; what each label wants beside that is ``training.evaluation.calibration``'s."""
SMALLEST = 1e-7
"""Probabilities are kept this far from 0 and 1: as float32 they have no logit beyond."""


def read_feedback(path: Path, pair: str, old: Cascade) -> Labelled:
    """The films that a pair of models read and a reader judged, each taken for a patient of its own.

    Logits are those that the reports' probabilities came from. Where the gate skipped a film there are none of stage 2,
    which is then not labelled for it: what it missed is in stage 1's figures alone.

    Args:
        path: the table.
        pair: ``workflows.store.pair_id`` of the models whose logits are wanted; other rows are left out.
        old: the calibration that the films were read with. Its ``kind`` must be ``marginal``: what comes back is what
            stage 2's maps are of.

    Raises:
        DataError: no such table, or too few films of this pair.
        FileNotFoundError: no such file.
    """
    table = read_film_table(path)
    require_columns(path, table, [PAIR, ROUTED, *(f"prob_{name}" for name in LABELS)])
    targets = read_labels(path).targets.reindex(columns=LABELS, fill_value=UNLABELLED)
    own = table[PAIR].eq(pair).to_numpy() & (targets.to_numpy() != UNLABELLED).any(axis=1)
    if others := int((table[PAIR] != pair).sum()):
        print(f"{path}: {others} films were read by other models than the store's, and are left out")
    films = int((targets[FINDING].to_numpy()[own] != UNLABELLED).sum())
    if films < MIN_FILMS:
        raise DataError(
            f"{path}: of {films} films that the store's models read a reader said whether they show a finding; a "
            f"calibration needs {MIN_FILMS} at least. --store is the store that was served when they were read"
        )
    table, labels = table[own], targets.to_numpy(np.int8)[own]
    scores = np.stack([probabilities(path, table, f"prob_{name}") for name in LABELS], axis=1)
    routed = table[ROUTED].str.lower().eq("true").to_numpy()
    labels[~routed, 1:] = UNLABELLED
    logits = _logits(scores, old)
    logits[~routed, 1:] = 0.0
    return Labelled(labels, logits, table[IMAGE].to_numpy(dtype=str))


def _logits(scores: NDArray[np.float64], old: Cascade) -> NDArray[np.float64]:
    """[N, 15] calibrated probabilities -> what they were calibrated from."""
    maps = old.maps([FINDING, *FINDINGS])
    slopes, intercepts = np.array([one.slope for one in maps]), np.array([one.intercept for one in maps])
    within = np.clip(scores, SMALLEST, 1 - SMALLEST)
    return (np.log(within / (1 - within)) - intercepts) / slopes
