"""What the service answers: the only schema of a report, for handlers, client and tests."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from handlers.findings import FINDINGS

Unit = Annotated[float, Field(ge=0.0, le=1.0)]


class Schema(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Score(Schema):
    """A probability in [0, 1] against its operating point; ``present`` where it reaches the threshold."""

    probability: Unit
    threshold: Unit
    present: bool

    @classmethod
    def at(cls, probability: float, threshold: float) -> "Score":
        return cls(probability=probability, threshold=threshold, present=probability >= threshold)


class ModelVersions(Schema):
    """The versions of the two archives. A ``+synthetic`` suffix: trained on films drawn by code."""

    binary: str
    disease: str


class Report(Schema):
    """A film that was read. Where ``routed`` is false stage 2 did not run and its 14 probabilities are 0.0."""

    finding: Score
    routed: bool
    diseases: dict[str, Score]
    models: ModelVersions


class Problem(Schema):
    """Why a film was refused: an HTTP-like ``code``, a stable ``type``, and a sentence for a person."""

    code: int
    type: str
    message: str


class Refusal(Schema):
    """A film that was not read."""

    error: Problem

    @classmethod
    def because(cls, code: int, type: str, message: str) -> "Refusal":
        return cls(error=Problem(code=code, type=type, message=message))


_ANSWER: TypeAdapter[Report | Refusal] = TypeAdapter(Report | Refusal)


def parse_answer(body: bytes | str) -> Report | Refusal:
    """The answer of ``POST /wfpredict/chest_xray``.

    Raises:
        pydantic.ValidationError: ``body`` is neither a report nor a refusal.
    """
    return _ANSWER.validate_json(body)


def skipped_diseases(thresholds: dict[str, float]) -> dict[str, Score]:
    """The 14 zeros of a film that the gate did not let through."""
    return {name: Score(probability=0.0, threshold=thresholds[name], present=False) for name in FINDINGS}
