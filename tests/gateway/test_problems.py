"""Problem documents: one for every way to get no report."""

import pytest

from gateway.problems import OWN, Problem, ProblemDocument
from gateway.routes.openapi import DRIFT_REASONS, FEEDBACK_REASONS, REASONS
from handlers.report import Refusal


@pytest.mark.parametrize("type", OWN)
def test_every_problem_is_a_document_of_rfc_9457(type: str) -> None:
    answer = Problem(type, "what was wrong").response("request-1")
    document = ProblemDocument.model_validate_json(bytes(answer.body))
    assert answer.media_type == "application/problem+json"
    assert (document.type, document.status) == (f"urn:cxr:{type}", answer.status_code)
    assert document.title.replace(" ", "").lower() == type.lower()
    assert (document.detail, document.instance) == ("what was wrong", "request-1")


@pytest.mark.parametrize("type", OWN)
def test_the_documentation_names_every_problem_under_its_status(type: str) -> None:
    status = OWN[type].status
    assert any(f"`{type}`" in table.get(status, "") for table in (REASONS, FEEDBACK_REASONS, DRIFT_REASONS))


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.3, "1"), (5.0, "5"), (5.1, "6")])
def test_retry_after_is_whole_seconds_and_never_none(seconds: float, header: str) -> None:
    assert Problem("Busy", "", retry_after=seconds).headers["Retry-After"] == header


def test_a_refusal_keeps_its_code_type_and_message_and_a_fault_does_not() -> None:
    refused = Problem.of_refusal(Refusal.because(422, "NotARadiograph", "a colour photograph"))
    assert (refused.status, refused.type, refused.detail) == (422, "NotARadiograph", "a colour photograph")
    assert refused.outcome == "refused"
    fault = Problem.of_refusal(Refusal.because(500, "InternalError", "a fault in the service"))
    assert (fault.status, fault.outcome, fault.headers) == (503, "failed", {})
