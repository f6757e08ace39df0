"""Fits Platt's calibration per label, and measures what it does on films that it was not fitted on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from handlers.calibration import Platt, calibrated
from training.evaluation.metrics import Scores, brier, expected_calibration_error
from workflows.files.text_files import DataError

FEWEST = 5
"""Films of either outcome below which a label is not calibrated: two numbers cannot be had from fewer."""
FOLDS = 5


def fit_platt(targets: NDArray[np.int8], logits: NDArray[np.float32]) -> Platt | None:
    """Logistic regression on a label's logits, with the smoothed targets of Platt (1999).

    Args:
        targets: [N] in {0, 1}.
        logits: [N].

    Returns:
        None where either outcome has fewer than ``FEWEST`` films, or where the fitted slope is not positive: that
        would turn the order of the films round.
    """
    positives = int(targets.sum())
    negatives = len(targets) - positives
    if min(positives, negatives) < FEWEST:
        return None
    wanted = np.where(targets == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # Cross-entropy against a share t is that of two copies of the film, a positive of weight t, a negative of 1 - t.
    copies = np.concatenate([logits, logits]).astype(np.float64)[:, None]
    outcomes = np.repeat([1, 0], len(logits))
    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky").fit(
        copies, outcomes, sample_weight=np.concatenate([wanted, 1 - wanted])
    )
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return Platt(slope=slope, intercept=intercept) if slope > 0 else None


def fit_labels(
    targets: NDArray[np.int8], logits: NDArray[np.float32], otherwise: Sequence[Platt]
) -> tuple[list[Platt], list[bool]]:
    """[N, L] and [N, L] -> each label's map, and whether its films moved it at all.

    Where no slope can be fitted, the slope of ``otherwise`` stays and the intercept alone is fitted; where a label has
    one outcome only, ``otherwise`` stays whole.
    """
    both = [bool(0 < targets[:, label].sum() < len(targets)) for label in range(len(otherwise))]
    maps = [
        (fit_platt(targets[:, label], logits[:, label]) or _shifted(targets[:, label], logits[:, label], old))
        if both[label]
        else old
        for label, old in enumerate(otherwise)
    ]
    return maps, both


def _shifted(targets: NDArray[np.int8], logits: NDArray[np.float32], old: Platt) -> Platt:
    """The intercept at which the mean score is the share of positives: a change of prevalence, and nothing else."""
    steep = old.slope * logits.astype(np.float64)
    edge = float(np.abs(steep).max()) + 40.0
    intercept = brentq(lambda shift: expit(steep + shift).mean() - targets.mean(), -edge, edge)
    return Platt(slope=old.slope, intercept=float(intercept))


def patient_folds(patients: NDArray[np.str_]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """[N] -> (rows to fit on, rows to measure on) of up to ``FOLDS`` folds; no patient is in both."""
    number = min(FOLDS, len(np.unique(patients)))
    if number < 2:
        raise DataError("a calibration is measured on patients it was not fitted on: films of two at least are needed")
    return list(GroupKFold(number).split(patients, groups=patients))


def cross_fitted(
    targets: NDArray[np.int8], logits: NDArray[np.float32], patients: NDArray[np.str_], otherwise: Sequence[Platt]
) -> NDArray[np.float32]:
    """[N, L] calibrated scores, each film's from a fit that saw none of its patient's films.

    Raises:
        DataError: all films are of one patient.
    """
    scores = np.zeros_like(logits)
    for fitted, held in patient_folds(patients):
        maps, _ = fit_labels(targets[fitted], logits[fitted], otherwise)
        scores[held] = calibrated(logits[held], maps)
    return scores


def calibration_errors(
    targets: NDArray[np.int8], before: Scores, after: Scores, labels: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """[N, L] each -> per label ``{"ece": {"before", "after"}, "brier": {"before", "after"}}``, all in [0, 1]."""
    ways = {"before": before, "after": after}
    return {
        name: {
            measure: {way: error(targets[:, label], scores[:, label]) for way, scores in ways.items()}
            for measure, error in (("ece", expected_calibration_error), ("brier", brier))
        }
        for label, name in enumerate(labels)
    }


def class_mean(errors: dict[str, Any], labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """The same of ``labels`` on average."""
    return {
        measure: {way: float(np.mean([errors[name][measure][way] for name in labels])) for way in ("before", "after")}
        for measure in ("ece", "brier")
    }
