"""Operating points, from validation scores that no gate has zeroed."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from handlers.cascade import Scores
from workflows.files.text_files import DataError

UNKNOWN = 0.5
"""A disease's threshold where too few films show it to choose one, and there is no older one to keep."""
NEVER = 1.0
"""A disease's threshold where no film is labelled for it: by an output that nothing has taught nothing is present."""


def threshold_for_sensitivity(targets: NDArray[np.int8], scores: Scores, sensitivity: float) -> float:
    """The highest score at which at least ``sensitivity`` of the positives are still called.

    Args:
        targets: [N] int8.
        scores: [N] in [0, 1].
        sensitivity: in (0, 1].

    Raises:
        DataError: no positive among the targets.
    """
    positives = np.sort(scores[targets == 1])[::-1]
    if not len(positives):
        raise DataError("validation holds no film with a finding: a threshold cannot be chosen by sensitivity")
    return float(positives[int(np.ceil(sensitivity * len(positives) - 1e-9)) - 1])


def threshold_for_f1(targets: NDArray[np.int8], scores: Scores, missed: int = 0) -> float:
    """The score, among the scores themselves, with the highest F1.

    Args:
        targets: [N] int8 in {0, 1}, at least one positive.
        scores: [N] in [0, 1].
        missed: positives that have no score, for the gate skipped them.
    """
    precision, recall, thresholds = precision_recall_curve(targets, scores)
    recall *= targets.sum() / (targets.sum() + missed)
    both = precision[:-1] + recall[:-1]
    f1 = np.divide(2 * precision[:-1] * recall[:-1], both, out=np.zeros_like(both), where=both > 0)
    return float(thresholds[np.argmax(f1)])
