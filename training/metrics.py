"""How good probabilities are: areas under the ROC curve, and the operating point's error rates."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, roc_auc_score

from handlers.findings import FINDINGS

Scores = NDArray[np.floating[Any]]


def auc(targets: NDArray[np.int8], scores: Scores) -> float | None:
    """[N] and [N] -> area under the ROC curve; None where the targets lack one of the two outcomes."""
    return float(roc_auc_score(targets, scores)) if len(np.unique(targets)) == 2 else None


def mean_auc(targets: NDArray[np.int8], scores: Scores) -> float | None:
    """[N, L] and [N, L] -> the mean over the labels that have both outcomes; None where none has."""
    areas = [auc(targets[:, label], scores[:, label]) for label in range(targets.shape[1])]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else None


def binary_metrics(targets: NDArray[np.int8], scores: Scores, threshold: float) -> dict[str, Any]:
    """Stage 1 at its served threshold. [N] int8, [N] in [0, 1]; a rate without a denominator is None."""
    called = scores >= threshold
    (true_negative, false_positive), (false_negative, true_positive) = confusion_matrix(
        targets, called, labels=[0, 1]
    ).tolist()
    return {
        "films": len(targets),
        "prevalence": float(targets.mean()),
        "auc": auc(targets, scores),
        "threshold": threshold,
        "accuracy": (true_positive + true_negative) / len(targets),
        "sensitivity": _rate(true_positive, true_positive + false_negative),
        "specificity": _rate(true_negative, true_negative + false_positive),
    }


def disease_metrics(targets: NDArray[np.int8], finding: Scores, diseases: Scores, threshold: float) -> dict[str, Any]:
    """Stage 2 under three ways to join it with stage 1.

    Ungated: stage 2 on all films. Gated, which is what is served: zeros where stage 1 is below ``threshold``.
    Soft: p(finding) x p(disease).

    Args:
        targets: [N, 14] int8.
        finding: [N] p(finding).
        diseases: [N, 14] stage 2 on every film.
        threshold: the gate's.
    """
    routed = finding >= threshold
    ways = {
        "ungated": diseases,
        "gated": np.where(routed[:, None], diseases, 0.0),
        "soft": finding[:, None] * diseases,
    }
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


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole else None
