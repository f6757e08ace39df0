"""Fits the cascade that is served to labelled films, and says what it does on these and on others.

Stage 1's calibration is fitted on all films; the gate is chosen by it; everything of stage 2 is then fitted on the
films that cross the gate, for its probabilities are shown of no others.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handlers.calibration import UNCALIBRATED, Logits, Platt, calibrated
from handlers.cascade import Cascade, score_logits
from handlers.findings import FINDING, FINDINGS, LABELS
from training.evaluation.calibration import (
    Fit,
    calibration_errors,
    cross_fitted,
    enough,
    fit_labels,
)
from training.evaluation.gate import Gated, choose_gate, gate_table
from training.evaluation.metrics import Scored, gated, labelled
from training.evaluation.thresholds import NEVER, UNKNOWN, threshold_for_f1
from workflows.files.text_files import DataError


@dataclass(frozen=True)
class Labelled:
    """Films with their labels and both stages' logits, stage 2's on every film.

    Attributes:
        targets: [N, 15] int8 in {-1, 0, 1} in the order of ``LABELS``; -1 where a film is not labelled.
        logits: [N, 15].
        patients: [N], whose film it is.
    """

    targets: NDArray[np.int8]
    logits: Logits
    patients: NDArray[np.str_]

    def only(self, rows: NDArray[Any]) -> "Labelled":
        return Labelled(self.targets[rows], self.logits[rows], self.patients[rows])


@dataclass(frozen=True)
class Fitted:
    """What films made of a cascade.

    Attributes:
        cascade: calibrations, gate and thresholds of all 15 labels.
        given_finding: of each of the 14, from stage 2's own logit to p(disease | finding): fitted on the films *with* a
            finding alone, whatever stage 2 was trained to be, so that ``soft`` multiplies no marginal probability.
        gate: the served sensitivity and threshold, why, and the table; None where the old gate stands.
        fits: per label, how much of its calibration is new.
        without_threshold: findings with too few routed films of either outcome to choose a threshold by.
    """

    cascade: Cascade
    given_finding: list[Platt]
    gate: dict[str, Any] | None
    fits: dict[str, Fit]
    without_threshold: list[str]

    def labels(self, fit: Fit) -> list[str]:
        """The labels that were fitted so far."""
        return [label for label, one in self.fits.items() if one == fit]

    def score(self, films: Labelled) -> Scored:
        """What the cascade makes of films."""
        finding = self.cascade.finding(films.logits[:, 0])
        routed = self.cascade.routed(finding)
        diseases = self.cascade.diseases(films.logits[:, 0], films.logits[:, 1:])
        soft = finding[:, None] * calibrated(films.logits[:, 1:], self.given_finding)
        ways = {"ungated": diseases, "gated": gated(routed, diseases), "soft": soft}
        present = self.cascade.present(finding, diseases)
        return Scored(films.targets[:, 1:], finding, routed, ways, present, films.targets[:, 0])


def fit_cascade(
    films: Labelled, old: Cascade, sensitivity: float | None = None, unseen: Labelled | None = None
) -> Fitted:
    """Refits ``old``, whose kind stays.

    With fewer than ``MIN_COUNT`` routed films of either outcome, a finding keeps the calibration and the threshold that
    ``old`` names. Where ``old`` names none, the intercept alone is fitted, and the threshold is ``UNKNOWN``, which
    nothing chose, or ``NEVER`` where no film at all is labelled for the finding. The gate is kept likewise; where there
    is none to keep, it is chosen by as many films as there are.

    Args:
        films: to fit on; stage 1 needs both outcomes where ``old`` has no gate.
        old: names nothing in a first evaluation; calibrations and thresholds of all labels in a recalibration.
        sensitivity: stage 1's on these films, in (0, 1]; by ``training.evaluation.gate``'s policy unless given.
        unseen: films that the gate's table is measured on, too.

    Raises:
        DataError: a sensitivity is given, and stage 1 has too few films to choose a gate by.
    """
    known = [old.calibration.get(label) for label in LABELS]
    [finding_map], [finding_fit] = fit_labels(films.targets[:, :1], films.logits[:, :1], known[:1])
    gate, threshold = None, old.thresholds.get(FINDING, UNKNOWN)
    first = Cascade(kind=old.kind, calibration={FINDING: finding_map})
    if FINDING not in old.thresholds or enough(films.targets[:, 0]):
        rows = gate_table(_gated(films, first), _gated(unseen, first) if unseen else None, sensitivity)
        served, why = choose_gate(rows, sensitivity)
        if not enough(films.targets[:, 0]):
            known_films = films.targets[:, 0][films.targets[:, 0] >= 0]
            why += f"; of {len(known_films)} films {known_films.sum()} show a finding, too few to trust it"
        threshold = served["threshold"]
        gate = {"sensitivity": served["sensitivity"], "threshold": threshold, "why": why, "table": rows}
    elif sensitivity is not None:
        raise DataError("no gate of a given sensitivity, as these films are too few to calibrate stage 1")

    routed = first.finding(films.logits[:, 0]) >= threshold
    crossed = films.only(routed)
    scores = score_logits(old.kind, crossed.logits[:, 0], crossed.logits[:, 1:])
    maps, fits = fit_labels(crossed.targets[:, 1:], scores, known[1:])
    probabilities = calibrated(scores, maps)
    few = [name for name, column in zip(FINDINGS, crossed.targets[:, 1:].T, strict=True) if not enough(column)]
    thresholds = {FINDING: threshold}
    for at, name in enumerate(FINDINGS, 1):
        if name in few:
            thresholds[name] = old.thresholds.get(name, UNKNOWN if (films.targets[:, at] >= 0).any() else NEVER)
        else:
            missed = int((films.targets[~routed, at] == 1).sum())
            thresholds[name] = threshold_for_f1(*labelled(crossed.targets[:, at], probabilities[:, at - 1]), missed)
    ill = films.only(films.targets[:, 0] == 1)
    given_finding, _ = fit_labels(ill.targets[:, 1:], ill.logits[:, 1:], [None] * len(FINDINGS))
    calibration = dict(zip(LABELS, [finding_map, *maps], strict=True))
    return Fitted(
        Cascade(kind=old.kind, calibration=calibration, thresholds=thresholds),
        given_finding,
        gate,
        dict(zip(LABELS, [finding_fit, *fits], strict=True)),
        few,
    )


def served_errors(films: Labelled, old: Cascade, new: Cascade, fitted_here: bool) -> dict[str, Any]:
    """``calibration_errors`` of what is served: of stage 1 on all films, of stage 2 on those that ``new`` routes.

    Args:
        films: some.
        old: its calibrations.
        new: its calibrations and its gate.
        fitted_here: ``new`` was fitted on these very films: each film's score is then from a fit without its patient's.
            A single patient's films have no such score.
    """
    crossed = films.only(new.routed(new.finding(films.logits[:, 0])))
    scores = score_logits(new.kind, crossed.logits[:, 0], crossed.logits[:, 1:])
    parts = (
        ((FINDING,), films.targets[:, :1], films.logits[:, :1], films.patients),
        (FINDINGS, crossed.targets[:, 1:], scores, crossed.patients),
    )
    errors: dict[str, Any] = {}
    for labels, targets, logits, patients in parts:
        if not fitted_here:
            after = calibrated(logits, new.maps(labels))
        elif len(np.unique(patients)) < 2:
            after = np.full(logits.shape, np.nan, np.float32)
        else:
            after = cross_fitted(targets, logits, patients, [old.calibration.get(label) for label in labels])
        errors |= calibration_errors(targets, calibrated(logits, old.maps(labels)), after, labels)
    return errors


def _gated(films: Labelled, first: Cascade) -> Gated:
    scores = score_logits(first.kind, films.logits[:, 0], films.logits[:, 1:])
    ordered = calibrated(scores, [UNCALIBRATED] * len(FINDINGS))
    return Gated(films.targets[:, 1:], first.finding(films.logits[:, 0]), ordered, films.targets[:, 0])
