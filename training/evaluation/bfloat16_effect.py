"""What bfloat16 changes of the reports of labelled films, by which ``auto`` chooses a precision."""

import numpy as np
from numpy.typing import NDArray

from handlers.bfloat16_rule import Bfloat16Effect
from handlers.calibration import Logits
from handlers.cascade import Cascade, Scores
from handlers.findings import LABELS
from training.evaluation.fit_cascade import Labelled
from training.evaluation.metrics import auc, mean_auc


def bfloat16_effect(films: Labelled, rounded: Logits, cascade: Cascade) -> Bfloat16Effect:
    """Both precisions on the same films, through the cascade that is served.

    Stage 2 counts on every film: on one that the gate skips it may not be skipped in the other precision.

    Args:
        films: with float32's logits, at least one.
        rounded: [N, 15], bfloat16's.
        cascade: calibrations, gate and thresholds.
    """
    before, after = (_scores(cascade, logits) for logits in (films.logits, rounded))
    called, turned = (_called(cascade, scores) for scores in (before, after))
    flipped = called != turned

    def changed(of: list[float | None]) -> float | None:
        return None if of[0] is None or of[1] is None else of[1] - of[0]

    return Bfloat16Effect(
        films=len(before),
        largest_change=float(np.abs(after - before).max()),
        finding_auc_change=changed([auc(films.targets[:, 0], scores[:, 0]) for scores in (before, after)]),
        mean_auc_change=changed([mean_auc(films.targets[:, 1:], scores[:, 1:]) for scores in (before, after)]),
        flipped=dict(zip(LABELS, flipped.sum(axis=0).tolist(), strict=True)),
        films_flipped=int(flipped.any(axis=1).sum()),
    )


def _scores(cascade: Cascade, logits: Logits) -> NDArray[np.float32]:
    """[N, 15] logits -> [N, 15] probabilities."""
    finding, diseases = cascade.finding(logits[:, 0]), cascade.diseases(logits[:, 0], logits[:, 1:])
    return np.concatenate([finding[:, None], diseases], axis=1)


def _called(cascade: Cascade, scores: Scores) -> NDArray[np.bool_]:
    """[N, 15]: what the gate lets through, and which findings the report calls present."""
    present = cascade.present(scores[:, 0], scores[:, 1:])
    return np.concatenate([cascade.routed(scores[:, 0])[:, None], present], axis=1)
