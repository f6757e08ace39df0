"""Platt's calibration: from a model's logit to the share of such films that do show the finding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Logits = NDArray[np.floating[Any]]


class Platt(BaseModel):
    """p = sigmoid(slope x logit + intercept), for one label (Platt, *Probabilistic outputs for SVMs*, 1999).

    The slope is positive, so films keep their order: no AUC changes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    slope: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    intercept: float = Field(default=0.0, allow_inf_nan=False)


UNCALIBRATED = Platt()


def calibrated(logits: Logits, maps: Sequence[Platt]) -> NDArray[np.float32]:
    """[N, L] logits and a map per label -> [N, L] float32 in [0, 1]; served and offline scores both come from here.

    Raises:
        ValueError: the number of maps is not L.
    """
    if logits.shape[1] != len(maps):
        raise ValueError(f"{logits.shape[1]} logits per film, but {len(maps)} calibrations")
    slopes, intercepts = (np.array([getattr(one, part) for one in maps]) for part in ("slope", "intercept"))
    # In float64, so that rounding gives no two films of different logits the same score before the last step.
    return np.exp(-np.logaddexp(0.0, -(logits * slopes + intercepts))).astype(np.float32)
