"""The cascade as it is served: two stages' logits to a report. Handlers, evaluation and recalibration all call it.

    stage 1's logit  -> Platt -> p(finding) -> the gate: routed, or skipped
    stage 2's logits -> Platt -> of a routed film, the probability of each of the 14; of a skipped one 0.0

Stage 2's maps are fitted on routed films alone (``training.evaluation.fit_cascade``), for its probabilities are shown
of no others: each is the share of such films, of those that crossed the gate, that do show the finding.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from handlers.calibration import UNCALIBRATED, Logits, Platt, calibrated
from handlers.certainty import Certainty
from handlers.findings import FINDING, FINDINGS
from handlers.report import Score

Kind = Literal["marginal", "conditional"]
"""What stage 2's own sigmoid was trained to be.

``marginal``: p(disease), on all films. ``conditional``: p(disease | finding), the disease branch of a joint run, whose
loss is on p(finding) x p(disease | finding) (``training.fit.joint``).
"""

Scores = NDArray[np.floating[Any]]


class Cascade(BaseModel):
    """Calibrations, gate and thresholds. An archive holds the part of its own labels, an evaluation all 15.

    Attributes:
        kind: of stage 2.
        calibration: per label; one that is not named runs uncalibrated.
        thresholds: per label, in [0, 1], of calibrated probabilities; that of ``Finding`` is the gate.
        certainty: how sure the probabilities are; None where nobody has asked, as in archives of before.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = "marginal"
    calibration: dict[str, Platt] = {}
    thresholds: dict[str, float] = {}
    certainty: Certainty | None = Field(default=None, exclude_if=lambda certainty: certainty is None)

    @classmethod
    def of_evaluation(cls, evaluation: Mapping[str, Any]) -> "Cascade":
        """What ``evaluation.json`` chose; how sure its probabilities are is chosen when they are archived."""
        return cls.model_validate({name: evaluation[name] for name in ("kind", "calibration", "thresholds")})

    def maps(self, labels: Sequence[str]) -> list[Platt]:
        return [self.calibration.get(label, UNCALIBRATED) for label in labels]

    def finding(self, logits: Logits) -> NDArray[np.float32]:
        """[N] stage 1's logits -> [N] p(finding)."""
        return calibrated(logits[:, None], self.maps([FINDING]))[:, 0]

    def routed(self, finding: Scores) -> NDArray[np.bool_]:
        """[N] p(finding) -> [N]: whether stage 2 runs."""
        return finding >= self.thresholds[FINDING]

    def diseases(self, finding_logits: Logits, logits: Logits) -> NDArray[np.float32]:
        """[N] and [N, 14] logits -> [N, 14] probabilities; of a film that is not routed they are not calibrated."""
        return calibrated(score_logits(self.kind, finding_logits, logits), self.maps(FINDINGS))

    def present(self, finding: Scores, diseases: Scores) -> NDArray[np.bool_]:
        """[N] p(finding) and [N, 14] -> [N, 14]: what the served report calls present."""
        limits = np.array([self.thresholds[name] for name in FINDINGS])
        return self.routed(finding)[:, None] & (diseases >= limits)

    def finding_score(self, logit: float) -> Score:
        """Stage 1's line of the report."""
        score = Score.at(float(self.finding(np.array([logit]))[0]), self.thresholds[FINDING])
        return self.certainty.judged(FINDING, score) if self.certainty else score

    def disease_scores(self, finding_logit: float, logits: Logits | None) -> dict[str, Score]:
        """[14] -> stage 2's lines of the report; None for a film that the gate skipped, of which all are 0.0."""
        if logits is None:
            scores = {name: Score(probability=0.0, threshold=self.thresholds[name], present=False) for name in FINDINGS}
        else:
            probabilities = self.diseases(np.array([finding_logit]), logits[None])[0].tolist()
            named = zip(FINDINGS, probabilities, strict=True)
            scores = {name: Score.at(probability, self.thresholds[name]) for name, probability in named}
        if self.certainty is None:
            return scores
        return {name: self.certainty.judged(name, score, logits is not None) for name, score in scores.items()}


def score_logits(kind: Kind, finding: Logits, diseases: Logits) -> Logits:
    """[N] and [N, 14] logits -> [N, 14], what stage 2 scores a film by: its own logits, or those of the product."""
    return diseases if kind == "marginal" else product_logits(finding[:, None], diseases)


def product_logits(first: Logits, second: Logits) -> NDArray[np.float64]:
    """The logit of sigmoid(first) x sigmoid(second), shapes broadcast, without underflow at either end.

    1 / (sigmoid(a) sigmoid(b)) - 1 = exp(-a) + exp(-b) + exp(-a - b), and the logit of p is -log(1 / p - 1).
    """
    first, second = first.astype(np.float64), second.astype(np.float64)
    return -np.logaddexp(np.logaddexp(-first, -second), -first - second)
