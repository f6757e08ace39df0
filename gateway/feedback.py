"""What a reader says of a film that was read: the document that comes in, and the labels that follow from it."""

from collections.abc import Mapping

from pydantic import Field, StrictBool, ValidationError

from gateway.problems import Problem
from handlers.findings import FINDING, FINDINGS, LABELS
from handlers.report import Schema

REMARK = 500
"""Characters."""

Labels = dict[str, bool | None]
"""Of each of the 15: present, absent, or None where the reader did not say."""


class Feedback(Schema):
    """What a reader sees on the film. What is left out was not judged."""

    readable: StrictBool = Field(default=True, description="false: no one could read this film; then without findings")
    findings: dict[str, StrictBool] = Field(
        default={},
        description="by name, whether it is present: any of the 14, and `Finding`, whether there is any of them",
        examples=[{"Finding": True, "Effusion": True, "Mass": False}],
    )
    remark: str = Field(default="", max_length=REMARK, description="for people; nothing that names a patient")

    @property
    def labels(self) -> Labels:
        """Where ``Finding`` is absent all 14 are; where one of them is present it is, too."""
        said = self.findings
        any_finding = said.get(FINDING)
        if any(said.get(name) for name in FINDINGS):
            any_finding = True
        elif all(said.get(name) is False for name in FINDINGS):
            any_finding = False
        return {FINDING: any_finding} | {name: False if any_finding is False else said.get(name) for name in FINDINGS}


def read_feedback(body: bytes) -> Feedback:
    """A request's body.

    Raises:
        Problem: MalformedFeedback, UnknownFinding; the detail says what and where, but never quotes a remark.
    """
    try:
        feedback = Feedback.model_validate_json(body)
    except ValidationError as fault:
        first = fault.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part)[:40] for part in first["loc"]) or "the document"
        raise Problem("MalformedFeedback", f"{place}: {first['msg'][:200]}") from None
    for name in feedback.findings:
        if name not in LABELS:
            raise Problem("UnknownFinding", f"{name[:40]!r} is none of {', '.join(LABELS)}")
    if not feedback.readable and feedback.findings:
        raise Problem("MalformedFeedback", "a film that is not readable comes without findings")
    if feedback.readable and not feedback.findings:
        raise Problem("MalformedFeedback", "say of one finding at least whether it is present, or 'readable': false")
    said, given = feedback.findings.get(FINDING), [feedback.findings.get(name) for name in FINDINGS]
    if (said is False and any(given)) or (said and all(one is False for one in given)):
        raise Problem("MalformedFeedback", "'Finding' says whether any of the 14 is present, and they say otherwise")
    return feedback.model_copy(update={"remark": _one_line(feedback.remark)})


def corrected(labels: Labels, present: Mapping[str, bool]) -> list[str]:
    """The names of which the reader says otherwise than the report did."""
    return [name for name, label in labels.items() if label is not None and label != present[name]]


def _one_line(remark: str) -> str:
    return "".join(letter for letter in " ".join(remark.split()) if letter.isprintable())
