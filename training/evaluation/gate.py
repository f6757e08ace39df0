"""The gate's policy: what each threshold of stage 1 costs and saves, and which one is served."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from handlers.cascade import Scores
from training.evaluation.metrics import gated, mean_auc, rates
from training.evaluation.thresholds import threshold_for_sensitivity

SENSITIVITIES = (0.90, 0.925, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99)
LOWEST = 0.95
"""The policy serves no lower sensitivity of its own accord, however little it would cost."""
MOST_LOST = 0.005
"""Mean AUC that the served gate may cost on validation."""


class Gated(NamedTuple):
    """Films that a gate is tried on: [N, 14] targets, [N] p(finding), [N, 14] of which only the order matters, and [N]
    stage 1's target. Targets are 1, 0, or -1 where a film is not labelled."""

    targets: NDArray[np.int8]
    finding: Scores
    diseases: Scores
    any_finding: NDArray[np.int8]


def gate_table(validation: Gated, test: Gated | None = None, wanted: float | None = None) -> list[dict[str, Any]]:
    """A row per sensitivity, rising; the thresholds come from validation, ``test`` is only measured.

    Args:
        validation: at least one film has a finding.
        test: films that no choice has seen.
        wanted: one more sensitivity in (0, 1].

    Returns:
        Rows of ``sensitivity`` (wanted), ``threshold``, and for ``validation`` and ``test`` what ``_at`` measures.
    """
    rows = []
    for sensitivity in sorted({*SENSITIVITIES, *([] if wanted is None else [wanted])}):
        threshold = threshold_for_sensitivity(validation.any_finding, validation.finding, sensitivity)
        measured = {"validation": _at(validation, threshold)} | ({"test": _at(test, threshold)} if test else {})
        rows.append({"sensitivity": sensitivity, "threshold": threshold, **measured})
    return rows


def choose_gate(rows: list[dict[str, Any]], wanted: float | None = None) -> tuple[dict[str, Any], str]:
    """The row that is served, by validation alone, and the sentence that says why.

    ``wanted`` where it is given; else the lowest sensitivity from ``LOWEST`` up whose gate costs at most ``MOST_LOST``
    of mean AUC; else, where every gate costs more, the highest.
    """
    if wanted is not None:
        return next(row for row in rows if row["sensitivity"] == wanted), "it was asked for"
    allowed = [row for row in rows if row["sensitivity"] >= LOWEST]
    if allowed[0]["validation"]["auc_change"] is None:
        return allowed[0], f"the lowest from {LOWEST:g} up; no finding has both outcomes, so no AUC can be lost"
    for row in allowed:
        if row["validation"]["auc_change"] >= -MOST_LOST:
            return row, f"the lowest from {LOWEST:g} up that costs at most {MOST_LOST:g} of mean AUC"
    return allowed[-1], f"the highest, for each costs more than {MOST_LOST:g} of mean AUC"


def _at(films: Gated, threshold: float) -> dict[str, float | None]:
    """Sensitivity and specificity; share of films skipped; mean AUC gated minus ungated; share of ViT passes saved.

    Two ViTs on all N films are 2 N passes, of which the gate saves one per skipped film.
    """
    routed = films.finding >= threshold
    called = rates(films.any_finding, routed)
    before, after = (mean_auc(films.targets, scores) for scores in (films.diseases, gated(routed, films.diseases)))
    skipped = float((~routed).mean())
    return {
        "sensitivity": called["sensitivity"],
        "specificity": called["specificity"],
        "skipped": skipped,
        "auc_change": None if before is None or after is None else after - before,
        "compute_saved": skipped / 2,
    }
