"""``POST /v1/reports/{id}/feedback``: what a reader says of a film that was read."""

from datetime import datetime

from fastapi import FastAPI
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from gateway.body import JSON, receive_feedback
from gateway.feedback import Feedback, read_feedback
from gateway.metrics import Metrics
from gateway.records import Records
from gateway.request_path import FEEDBACK
from gateway.routes import openapi
from gateway.settings import Settings
from handlers.report import Schema


class Noted(Schema):
    """That it is written down, for good."""

    report: str = Field(description="the report's id")
    given: datetime = Field(description="when, UTC")
    corrected: list[str] = Field(description="where the reader says otherwise than the report did")


class FeedbackRoute:
    """Writes it down before it answers."""

    def __init__(self, settings: Settings, records: Records, metrics: Metrics) -> None:
        self._settings, self._records, self._metrics = settings, records, metrics

    def mount(self, app: FastAPI) -> None:
        """The route, and what ``/docs`` says of it."""
        said = (
            "By the key that the report was given to, once, for as long as the service knows the report: "
            f"{self._settings.records_days} days, or {self._settings.records_number} reports."
        )
        answers = {status: openapi.problem(status, reason) for status, reason in openapi.FEEDBACK_REASONS.items()}
        content = {JSON: {"schema": Feedback.model_json_schema()}}
        differs = {
            "response_model": Noted,
            "status_code": 201,
            "responses": answers,
            "openapi_extra": {"requestBody": {"required": True, "content": content}},
        }
        openapi.add_post(app, FEEDBACK, self.post, "Judge one report", said, **differs)

    async def post(self, request: Request, id: str) -> Response:
        """The route.

        Raises:
            Problem: nothing was noted.
        """
        feedback = read_feedback(await receive_feedback(request, self._settings))
        given = await self._records.answer(id, request.state.context.key, feedback)
        kind = "corrected" if given.corrected else "agreed" if feedback.readable else "unreadable"
        self._metrics.feedback.labels(kind).inc()
        noted = Noted(report=id, given=datetime.fromisoformat(given.given), corrected=given.corrected)
        return Response(noted.model_dump_json(), 201, media_type=JSON)
