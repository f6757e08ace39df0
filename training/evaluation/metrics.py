"""How good probabilities are: areas under the ROC curve, calibration errors, and an operating point's rates.

Targets are 1, 0 or -1: a film that is not labelled (-1) counts in no figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from handlers.cascade import Scores
from handlers.findings import FINDINGS

MIN_COUNT = 10
"""Below this many films of either outcome no slope is fitted and no threshold chosen by F1, below this many patients of
either no AUC of a subgroup is given. Ten events for each parameter that they decide: Peduzzi et al., *A simulation
study of the number of events per variable in logistic regression analysis*, J Clin Epidemiol 1996."""
FEW = ("uncalibrated", "without_slope", "without_threshold")
"""Of an evaluation: the lists of labels that have too few films, by what follows."""
BINS = 15
"""Of the expected calibration error, as in Guo et al., *On calibration of modern neural networks*, ICML 2017."""


def labelled(targets: NDArray[np.int8], values: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[Any]]:
    """[N] and [N, ...] -> both on the films that are labelled."""
    known = targets >= 0
    return targets[known], values[known]


def auc(targets: NDArray[np.int8], scores: Scores) -> float | None:
    """[N] and [N] -> area under the ROC curve; None where the targets lack one of the two outcomes."""
    targets, scores = labelled(targets, scores)
    return float(roc_auc_score(targets, scores)) if len(np.unique(targets)) == 2 else None


def mean_auc(targets: NDArray[np.int8], scores: Scores) -> float | None:
    """[N, L] and [N, L] -> the mean over the labels that have both outcomes; None where none has."""
    areas = [auc(targets[:, label], scores[:, label]) for label in range(targets.shape[1])]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else None


def expected_calibration_error(targets: NDArray[np.int8], scores: Scores) -> float:
    """[N] in {0, 1} and [N] in [0, 1], N > 0 -> [0, 1]: how far a label's probabilities are from its frequencies.

    The mean over the films of |share of positives - mean score| in each film's bin; ``BINS`` bins of equal width, a
    score on an edge in the lower one. Guo et al. take the winning class's confidence; this takes the label's own
    probability, as a report shows it.
    """
    return float(np.abs(np.bincount(bins_of(scores), weights=scores - targets)).sum() / len(targets))


def bins_of(scores: Scores) -> NDArray[np.int64]:
    """[N] in [0, 1] -> [N]: the bin of each score, from 0 to ``BINS`` - 1."""
    return np.clip(np.ceil(scores * BINS).astype(np.int64) - 1, 0, BINS - 1)


def brier(targets: NDArray[np.int8], scores: Scores) -> float:
    """[N] in {0, 1} and [N] in [0, 1], N > 0 -> the mean squared error, in [0, 1] (Brier, 1950)."""
    return float(np.mean((scores - targets) ** 2, dtype=np.float64))


def class_mean(errors: dict[str, Any], labels: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """ECE and Brier, before and after, on average over those of ``labels`` that have figures; None where none has."""

    def mean(measure: str, way: str) -> float | None:
        known = [value for name in labels if (value := errors[name][measure][way]) is not None]
        return float(np.mean(known)) if known else None

    return {measure: {way: mean(measure, way) for way in ("before", "after")} for measure in ("ece", "brier")}


def rates(targets: NDArray[np.int8], called: NDArray[np.bool_]) -> dict[str, float | None]:
    """[N] and [N] -> sensitivity, specificity, PPV, NPV; None where there is nothing to take the share of."""
    targets, called = labelled(targets, called)
    present = targets == 1
    return {
        "sensitivity": _share(called[present]),
        "specificity": _share(~called[~present]),
        "ppv": _share(present[called]),
        "npv": _share(~present[~called]),
    }


def binary_metrics(targets: NDArray[np.int8], scores: Scores, threshold: float) -> dict[str, Any]:
    """Stage 1 at its served threshold. [N] int8, [N] in [0, 1]; a rate without a denominator is None."""
    films = len(targets)
    targets, scores = labelled(targets, scores)
    called = scores >= threshold
    return {
        "films": films,
        "labelled": len(targets),
        "prevalence": _share(targets == 1),
        "auc": auc(targets, scores),
        "threshold": threshold,
        "accuracy": _share(called == (targets == 1)),
        **rates(targets, called),
    }


def gated(routed: NDArray[np.bool_], diseases: Scores) -> Scores:
    """[N] and [N, 14] -> [N, 14], as it is served: zeros where the gate skips a film."""
    return np.where(routed[:, None], diseases, 0.0)


@dataclass(frozen=True)
class Scored:
    """Films with both stages' probabilities.

    Attributes:
        targets: [N, 14] int8 in {-1, 0, 1}.
        finding: [N] p(finding).
        routed: [N], whether the gate lets the film through.
        ways: the 14 of each film, [N, 14], in the three ways to join the stages. ``ungated``: stage 2 on every film,
            calibrated for routed ones alone; ``gated``: the same, zeros where the gate skips the film, which is what
            is served; ``soft``: p(finding) x p(disease | finding), calibrated for every film.
        present: [N, 14], what the served report calls present.
        any_finding: [N] int8 in {-1, 0, 1}, stage 1's target.
    """

    targets: NDArray[np.int8]
    finding: Scores
    routed: NDArray[np.bool_]
    ways: dict[str, Scores]
    present: NDArray[np.bool_]
    any_finding: NDArray[np.int8]


def disease_metrics(films: Scored) -> dict[str, Any]:
    """Stage 2 on its own and under the gate: AUC of each finding and way, and the rates of what is served.

    A finding behind the gate counts as missed.
    """
    per_disease = {
        name: {
            "positives": int((films.targets[:, label] == 1).sum()),
            **{way: auc(films.targets[:, label], scores[:, label]) for way, scores in films.ways.items()},
        }
        for label, name in enumerate(FINDINGS)
    }
    return {
        "routed": int(films.routed.sum()),
        "skipped": int((~films.routed).sum()),
        "diseases": per_disease,
        "mean_auc": {way: mean_auc(films.targets, scores) for way, scores in films.ways.items()},
        "left_out": [name for name, areas in per_disease.items() if areas["ungated"] is None],
        "unlabelled": [name for name, of in zip(FINDINGS, films.targets.T, strict=True) if not (of >= 0).any()],
        "served": {
            name: rates(films.targets[:, label], films.present[:, label]) for label, name in enumerate(FINDINGS)
        },
    }


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None
