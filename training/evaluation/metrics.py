"""How good probabilities are: areas under the ROC curve, calibration errors, and an operating point's rates."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from handlers.findings import FINDINGS

Scores = NDArray[np.floating[Any]]

BINS = 15
"""Of the expected calibration error, as in Guo et al., *On calibration of modern neural networks*, ICML 2017."""


def auc(targets: NDArray[np.int8], scores: Scores) -> float | None:
    """[N] and [N] -> area under the ROC curve; None where the targets lack one of the two outcomes."""
    return float(roc_auc_score(targets, scores)) if len(np.unique(targets)) == 2 else None


def mean_auc(targets: NDArray[np.int8], scores: Scores) -> float | None:
    """[N, L] and [N, L] -> the mean over the labels that have both outcomes; None where none has."""
    areas = [auc(targets[:, label], scores[:, label]) for label in range(targets.shape[1])]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else None


def expected_calibration_error(targets: NDArray[np.int8], scores: Scores) -> float:
    """[N] in {0, 1} and [N] in [0, 1] -> [0, 1]: how far a label's probabilities are from its frequencies.

    The mean over the films of |share of positives - mean score| in each film's bin; ``BINS`` bins of equal width, a
    score on an edge in the lower one. Guo et al. take the winning class's confidence; this takes the label's own
    probability, as a report shows it.
    """
    bins = np.clip(np.ceil(scores * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return float(np.abs(np.bincount(bins, weights=scores - targets, minlength=BINS)).sum() / len(targets))


def brier(targets: NDArray[np.int8], scores: Scores) -> float:
    """[N] and [N] -> the mean squared error of the probabilities, in [0, 1] (Brier, 1950)."""
    return float(np.mean((scores - targets) ** 2, dtype=np.float64))


def rates(targets: NDArray[np.int8], called: NDArray[np.bool_]) -> dict[str, float | None]:
    """[N] and [N] -> sensitivity, specificity, PPV, NPV; None where there is nothing to take the share of."""
    present = targets == 1
    return {
        "sensitivity": _share(called[present]),
        "specificity": _share(~called[~present]),
        "ppv": _share(present[called]),
        "npv": _share(~present[~called]),
    }


def binary_metrics(targets: NDArray[np.int8], scores: Scores, threshold: float) -> dict[str, Any]:
    """Stage 1 at its served threshold. [N] int8, [N] in [0, 1]; a rate without a denominator is None."""
    called = scores >= threshold
    return {
        "films": len(targets),
        "prevalence": float(targets.mean()),
        "auc": auc(targets, scores),
        "threshold": threshold,
        "accuracy": float((called == (targets == 1)).mean()),
        **rates(targets, called),
    }


def served_rates(
    targets: NDArray[np.int8], finding: Scores, diseases: Scores, thresholds: dict[str, float], gate: float
) -> dict[str, dict[str, float | None]]:
    """Per finding, the rates of what is served: present where the gate lets the film through and stage 2 says so.

    Args:
        targets: [N, 14] int8.
        finding: [N] p(finding).
        diseases: [N, 14] stage 2 on every film.
        thresholds: of each finding.
        gate: stage 1's threshold.
    """
    routed = finding >= gate
    return {
        name: rates(targets[:, label], routed & (diseases[:, label] >= thresholds[name]))
        for label, name in enumerate(FINDINGS)
    }


def joined(finding: Scores, diseases: Scores, threshold: float) -> dict[str, Scores]:
    """[N] and [N, 14] -> three ways to join stage 2 with stage 1, [N, 14] each.

    Ungated: stage 2 on all films. Gated, which is what is served: zeros where stage 1 is below ``threshold``.
    Soft: p(finding) x p(disease).
    """
    routed = finding >= threshold
    return {
        "ungated": diseases,
        "gated": np.where(routed[:, None], diseases, 0.0),
        "soft": finding[:, None] * diseases,
    }


def disease_metrics(targets: NDArray[np.int8], finding: Scores, diseases: Scores, threshold: float) -> dict[str, Any]:
    """Stage 2 on its own and under the gate: AUC of each finding, each way of ``joined``.

    Args:
        targets: [N, 14] int8.
        finding: [N] p(finding).
        diseases: [N, 14] stage 2 on every film.
        threshold: the gate's.
    """
    routed, ways = finding >= threshold, joined(finding, diseases, threshold)
    per_disease = {
        name: {
            "positives": int(targets[:, label].sum()),
            **{way: auc(targets[:, label], scores[:, label]) for way, scores in ways.items()},
        }
        for label, name in enumerate(FINDINGS)
    }
    return {
        "routed": int(routed.sum()),
        "skipped": int((~routed).sum()),
        "diseases": per_disease,
        "mean_auc": {way: mean_auc(targets, scores) for way, scores in ways.items()},
        "left_out": [name for name, areas in per_disease.items() if areas["ungated"] is None],
    }


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None
