"""Fits Platt's calibration per label, and measures what it does on films that it was not fitted on.

Films that are not labelled (-1) for a label take no part in it.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from handlers.calibration import UNCALIBRATED, Logits, Platt, calibrated
from handlers.cascade import Scores
from training.evaluation.metrics import MIN_COUNT, brier, expected_calibration_error, labelled
from workflows.files.text_files import DataError

FOLDS = 5


Fit = Literal["slope", "intercept", "nothing"]
"""How much of a label's map its films could fit."""


def enough(targets: NDArray[np.int8]) -> bool:
    """[N]: whether there are ``MIN_COUNT`` films of either outcome."""
    return bool(min((targets == 1).sum(), (targets == 0).sum()) >= MIN_COUNT)


def fit_platt(targets: NDArray[np.int8], logits: Logits) -> Platt | None:
    """Logistic regression on a label's logits, with the smoothed targets of Platt (1999).

    Args:
        targets: [N] in {0, 1}, both outcomes.
        logits: [N].

    Returns:
        None where the fitted slope is not positive: that would turn the order of the films round.
    """
    positives = int(targets.sum())
    negatives = len(targets) - positives
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
    targets: NDArray[np.int8], logits: Logits, old: Sequence[Platt | None], whole: Sequence[bool] | None = None
) -> tuple[list[Platt], list[Fit]]:
    """Each label's map, and how much of it is new.

    Where there are too few films for a slope, the old map stays whole; where there is no old one, the model's own slope
    stays and the intercept is fitted, which needs both outcomes. Where the slope is not positive, the old slope (or the
    model's own) stays and the intercept is fitted.

    Args:
        targets: [N, L] in {-1, 0, 1}.
        logits: [N, L].
        old: L maps of films elsewhere; None for a label that never had one.
        whole: which labels have enough films; those with ``MIN_COUNT`` of either outcome unless told.
    """
    maps: list[Platt] = []
    fits: list[Fit] = []
    for label, before in enumerate(old):
        of, on = labelled(targets[:, label], logits[:, label])
        both = 0 < of.sum() < len(of)
        many = both and (enough(of) if whole is None else whole[label])
        if many and (fitted := fit_platt(of, on)):
            maps.append(fitted)
            fits.append("slope")
        elif many or (both and before is None):
            maps.append(_shifted(of, on, before or UNCALIBRATED))
            fits.append("intercept")
        else:
            maps.append(before or UNCALIBRATED)
            fits.append("nothing")
    return maps, fits


def _shifted(targets: NDArray[np.int8], logits: Logits, old: Platt) -> Platt:
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
    targets: NDArray[np.int8], logits: Logits, patients: NDArray[np.str_], old: Sequence[Platt | None]
) -> NDArray[np.float32]:
    """[N, L] calibrated scores, each film's from a fit that saw none of its patient's films.

    A label is fitted as ``fit_labels`` would on all films, though a fold has fewer.

    Raises:
        DataError: all films are of one patient.
    """
    whole = [enough(column) for column in targets.T]
    scores = np.zeros(logits.shape, np.float32)
    for fitted, held in patient_folds(patients):
        maps, _ = fit_labels(targets[fitted], logits[fitted], old, whole)
        scores[held] = calibrated(logits[held], maps)
    return scores


def calibration_errors(
    targets: NDArray[np.int8], before: Scores, after: Scores, labels: Sequence[str]
) -> dict[str, dict[str, dict[str, float | None]]]:
    """[N, L] each -> per label ``{"ece": {"before", "after"}, "brier": {"before", "after"}}``, all in [0, 1].

    None where there is no film, or no score (NaN).
    """
    ways = {"before": before, "after": after}
    measures = (("ece", expected_calibration_error), ("brier", brier))
    errors: dict[str, dict[str, dict[str, float | None]]] = {}
    for label, name in enumerate(labels):
        known = {way: labelled(targets[:, label], scores[:, label]) for way, scores in ways.items()}
        errors[name] = {
            measure: {
                way: error(of, scores) if len(scores) and np.isfinite(scores).all() else None
                for way, (of, scores) in known.items()
            }
            for measure, error in measures
        }
    return errors
