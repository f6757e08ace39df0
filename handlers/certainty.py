"""How sure a probability is: present, absent or uncertain at a chosen error rate, and where it stands among others.

The calls are class-conditional split-conformal sets (Vovk, "Conditional validity of inductive conformal predictors",
ACML 2012; fitted by ``training.evaluation.conformal``): of films with a finding at most the error rate are called
absent, of films without it at most the error rate are called present, films behind the gate included.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from handlers.report import Call, Percentiles, Score, Unit


class Bounds(BaseModel):
    """Of one label's served probability; those that are open call every film uncertain.

    Attributes:
        low: at least this much, and the film may show the finding.
        high: at most this much, and the film may be without it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: Unit = 0.0
    high: Unit = 1.0

    def call(self, probability: float) -> Call:
        """Uncertain where both may be, and where neither may: so no film is called more surely than it was fitted."""
        may_show, may_not = probability >= self.low, probability <= self.high
        if may_show == may_not:
            return "uncertain"
        return "present" if may_show else "absent"


class Standing(BaseModel):
    """The probabilities that validation films of either kind were given: 0th to 100th percentile, or nothing where they
    were too few. Stage 2's are of films that cross the gate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    with_finding: list[float] = []
    without_finding: list[float] = []


class Certainty(BaseModel):
    """What an archive knows of its own labels' probabilities.

    Attributes:
        error: the rate that the calls keep to.
        bounds: by label; one that is not named is always uncertain.
        standing: by label.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    error: float = Field(gt=0.0, lt=0.5)
    bounds: dict[str, Bounds]
    standing: dict[str, Standing] = {}

    def only(self, labels: Sequence[str]) -> "Certainty":
        """The part of some labels."""
        kept = {
            name: {label: of for label, of in getattr(self, name).items() if label in labels}
            for name in ("bounds", "standing")
        }
        return self.model_copy(update=kept)

    def judged(self, label: str, score: Score, seen: bool = True) -> Score:
        """The score with its call and, where a model has ``seen`` the film, its percentiles."""
        call = self.bounds.get(label, Bounds()).call(score.probability)
        table = self.standing.get(label, Standing())
        if not seen or not (table.with_finding or table.without_finding):
            return score.model_copy(update={"call": call})
        percentiles = Percentiles(
            with_finding=percentile(table.with_finding, score.probability),
            without_finding=percentile(table.without_finding, score.probability),
        )
        return score.model_copy(update={"call": call, "percentiles": percentiles})


def percentile(table: Sequence[float], value: float) -> float | None:
    """A value's place in a table of rising quantiles from the 0th to the 100th percentile, in [0, 100], to a tenth.

    None for an empty table. Of a value that several percentiles have it is the middle one.
    """
    if not table:
        return None
    left, right = bisect_left(table, value), bisect_right(table, value)
    if left < right:
        place = (left + right - 1) / 2
    elif left in (0, len(table)):
        place = min(left, len(table) - 1)
    else:
        place = left - 1 + (value - table[left - 1]) / (table[left] - table[left - 1])
    return round(100.0 * place / (len(table) - 1), 1)
