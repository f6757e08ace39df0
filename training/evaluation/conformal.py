"""Fits the calls ``present``, ``absent`` and ``uncertain`` on validation films, and measures them on test films.

Split conformal prediction, for each label and each of its outcomes by itself (Vovk, "Conditional validity of inductive
conformal predictors", ACML 2012; Angelopoulos, Bates, "A gentle introduction to conformal prediction", 2021, section
4.1): of n films with a finding, its probabilities in rising order, ``low`` is the floor((n + 1) error)-th; of n films
without it ``high`` is the ceil((n + 1)(1 - error))-th. A new film of either kind then keeps to its own bound with a
probability of 1 - error at least, whatever the finding's prevalence, so long as it is drawn as these were. Scores are
those that are served: 0.0 of a film that the gate skips, so that what the gate misses counts among the errors.
"""

from functools import cache
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from handlers.cascade import Scores
from handlers.certainty import Bounds, Certainty, Standing
from handlers.findings import LABELS
from training.evaluation.bootstrap import share_intervals
from training.evaluation.metrics import MIN_COUNT, Scored

ERRORS = (0.05, 0.1, 0.15, 0.2)
"""Rates that an archive may be made with."""
ERROR = 0.1
"""The one that it is made with unless told."""
SURE = 0.95
ROUNDING = 1e-9
"""(n + 1) error is often a whole number, and its product in binary a little less."""


@cache
def fewest(error: float) -> int:
    """Patients of either outcome from which on bounds are meaningful; below, every film is uncertain.

    The share of new films that keep to a bound fitted on n films has a beta distribution of n + 1 - k and k,
    k = floor((n + 1) error) (Vovk 2012, proposition 2). From so many on that share is no lower than 1 - 2 error with a
    probability of 95%: 30 for an error of 0.1. Patients, for the films of one patient are alike.
    """
    number = ceil(20 / error)
    while _lowest(number - 1, error) >= 1 - 2 * error:
        number -= 1
    return number


def _lowest(films: int, error: float) -> float:
    rank = floor((films + 1) * error + ROUNDING)
    return float(beta.ppf(1 - SURE, films + 1 - rank, rank)) if rank else 0.0


def fit_bounds(targets: NDArray[np.int8], scores: Scores, patients: NDArray[Any], error: float) -> Bounds | None:
    """One label's bounds; None where fewer than ``fewest`` patients have a film with it, or have one without it.

    Args:
        targets: [N] in {-1, 0, 1}.
        scores: [N] in [0, 1], 0.0 where the gate skips the film.
        patients: [N].
        error: above 0 and below 0.5.
    """
    if min(len(np.unique(patients[targets == outcome])) for outcome in (0, 1)) < fewest(error):
        return None
    shown, without = np.sort(scores[targets == 1]), np.sort(scores[targets == 0])
    at_low = floor((len(shown) + 1) * error + ROUNDING) - 1
    at_high = ceil((len(without) + 1) * (1 - error) - ROUNDING) - 1
    return Bounds(low=float(shown[at_low]), high=float(without[at_high]))


def fit_certainty(films: Scored, patients: NDArray[Any], error: float) -> Certainty:
    """Of all 15 labels; those with too few patients have no bounds, those with fewer than ``MIN_COUNT`` films of a
    kind no percentiles among them."""
    served, targets, seen = _served(films), _targets(films), _seen(films)
    bounds = {
        name: fitted
        for at, name in enumerate(LABELS)
        if (fitted := fit_bounds(targets[:, at], served[:, at], patients, error))
    }
    standing = {}
    for at, name in enumerate(LABELS):
        kinds = (served[seen[:, at] & (targets[:, at] == outcome), at] for outcome in (1, 0))
        with_finding, without = (_quantiles(scores) for scores in kinds)
        standing[name] = Standing(with_finding=with_finding, without_finding=without)
    return Certainty(error=error, bounds=bounds, standing=standing)


def coverage(films: Scored, patients: NDArray[Any], certainty: Certainty) -> dict[str, Any]:
    """What the calls are worth on films that nothing was fitted on: by label that has bounds, shares with 95%
    intervals over patients.

    ``covered``: films whose call does not deny what they show, of all that are labelled; ``with_finding`` and
    ``without_finding``: the same of those alone. ``uncertain``: films of that call.
    """
    served, targets = _served(films), _targets(films)
    fitted = {}
    for at, name in enumerate(LABELS):
        if name not in certainty.bounds:
            continue
        calls = np.array([certainty.bounds[name].call(score) for score in served[:, at].tolist()])
        truth = targets[:, at]
        right = np.where(truth == 1, calls != "absent", calls != "present")
        kinds = {
            "covered": (right, truth >= 0),
            "with_finding": (right, truth == 1),
            "without_finding": (right, truth == 0),
            "uncertain": (calls == "uncertain", np.ones(len(calls), bool)),
        }
        flags, counted = (np.stack(part, axis=1) for part in zip(*kinds.values(), strict=True))
        shares = share_intervals(flags, counted, patients)
        counts = {"films_with": int((truth == 1).sum()), "films_without": int((truth == 0).sum())}
        fitted[name] = {**counts, **{kind: vars(share) for kind, share in zip(kinds, shares, strict=True)}}
    return fitted


def certainty_table(
    known: Scored, known_patients: NDArray[Any], unseen: Scored, unseen_patients: NDArray[Any]
) -> dict[str, Any]:
    """Of an evaluation: the bounds and their coverage on test films for each of ``ERRORS``, and the percentiles."""
    rows, standing = [], {}
    for error in ERRORS:
        fitted = fit_certainty(known, known_patients, error)
        standing = fitted.model_dump()["standing"]
        rows.append(
            {
                "error": error,
                "fewest": fewest(error),
                "bounds": {name: bounds.model_dump() for name, bounds in fitted.bounds.items()},
                "uncertain": [name for name in LABELS if name not in fitted.bounds],
                "coverage": coverage(unseen, unseen_patients, fitted),
            }
        )
    return {"table": rows, "standing": standing}


def _served(films: Scored) -> Scores:
    """[N, 15] as reports show them."""
    return np.concatenate([films.finding[:, None], films.ways["gated"]], axis=1)


def _targets(films: Scored) -> NDArray[np.int8]:
    return np.concatenate([films.any_finding[:, None], films.targets], axis=1)


def _seen(films: Scored) -> NDArray[np.bool_]:
    """[N, 15]: whether a model has said the probability, or the gate skipped the film."""
    routed = np.repeat(films.routed[:, None], films.targets.shape[1], axis=1)
    return np.concatenate([np.ones((len(routed), 1), bool), routed], axis=1)


def _quantiles(scores: Scores) -> list[float]:
    if len(scores) < MIN_COUNT:
        return []
    return [float(f"{value:.6g}") for value in np.percentile(scores, np.arange(101))]
