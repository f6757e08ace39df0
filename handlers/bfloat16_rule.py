"""What bfloat16 changes of a pair's calls, as archives say it, and whether that may be. It wants no network library."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["float32", "bfloat16"]
Wanted = Literal["auto", "float32", "bfloat16"]

MOVED = 0.005
"""How far bfloat16 may move a probability,"""
AUC_MOVED = 0.001
"""an area under the ROC curve: stage 1's, or stage 2's mean,"""
FLIPPED = 0.005
"""and of which share of the films it may turn the call of a finding, or of the gate."""


class Bfloat16Effect(BaseModel):
    """What bfloat16 changes on films that nothing was trained on (``training.evaluation.bfloat16_effect``).

    Attributes:
        films: how many there were.
        largest_change: of a calibrated probability, over films and all 15 labels.
        finding_auc_change, mean_auc_change: of stage 1's area under the ROC curve, and of the 14's mean; None where the
            films have one outcome only.
        flipped: by label, on how many films the served call turns; ``Finding`` is the gate's.
        films_flipped: on how many films any call turns.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    films: int = Field(gt=0)
    largest_change: float = Field(ge=0.0, le=1.0)
    finding_auc_change: float | None
    mean_auc_change: float | None
    flipped: dict[str, int]
    films_flipped: int

    @property
    def objection(self) -> str | None:
        """Why ``auto`` means float32; None where bfloat16 will do."""
        if self.largest_change > MOVED:
            return f"bfloat16 moves a probability by {self.largest_change:.4f}, {MOVED:g} is allowed"
        changes = [abs(one) for one in (self.finding_auc_change, self.mean_auc_change) if one is not None]
        if changes and max(changes) > AUC_MOVED:
            return f"bfloat16 moves an AUC by {max(changes):.4f}, {AUC_MOVED:g} is allowed"
        label, films = max(self.flipped.items(), key=lambda one: one[1], default=("", 0))
        if films > FLIPPED * self.films:
            return f"bfloat16 turns the call of {label} on {films} of {self.films} films, {FLIPPED:.1%} are allowed"
        return None
