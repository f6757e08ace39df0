"""``POST /v1/studies``: the films of one study in, a line for each as it is done out, and the study summed up."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.admission import Admission
from gateway.body import FIELD, FORM, MAX_FILMS, Arrived, read_options, receive_study
from gateway.metrics import Metrics
from gateway.problems import Problem, ProblemDocument
from gateway.request_path import recorded
from gateway.routes import openapi
from gateway.routes.reports import Reports
from gateway.settings import Settings
from handlers.report import Report, Schema
from handlers.study import Study, summed_up

MEDIA_TYPE = "application/x-ndjson"
AT_ONCE = 4
"""Films of one study that wait for a slot or have one: a study leaves room for others."""


class FilmLine(Schema):
    """A film of a study: its ``report``, or the ``problem`` why it has none."""

    film: int = Field(description="the film's number in the form, from 0", ge=0)
    report: Report | None = None
    problem: ProblemDocument | None = None


class StudyLine(Schema):
    """The last line."""

    study: Study


LINES: dict[str, Any] = {
    "description": "A line of JSON for each film as it is done, in any order, then a last one with `study`.",
    "content": {MEDIA_TYPE: {"schema": {"oneOf": [FilmLine.model_json_schema(), StudyLine.model_json_schema()]}}},
}
FILMS: dict[str, Any] = {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": MAX_FILMS}
REQUEST: dict[str, Any] = {
    **openapi.REQUEST,
    "requestBody": {
        "required": True,
        "description": f"The films, PNG, JPEG or DICOM, each as a field `{FIELD}`; {MAX_FILMS} at most.",
        "content": {FORM: {"schema": {"type": "object", "properties": {FIELD: FILMS}, "required": [FIELD]}}},
    },
}


class Studies:
    """Takes a study from its request to its last line. Each film is admitted and read as by ``/v1/reports``."""

    def __init__(self, settings: Settings, admission: Admission, reports: Reports, metrics: Metrics) -> None:
        self._settings, self._admission, self._reports, self._metrics = settings, admission, reports, metrics

    def mount(self, app: FastAPI) -> None:
        """The route, and what ``/docs`` says of it."""
        said = "Many films in; each one's report or problem out as it is done, and the study summed up."
        answers = {**openapi.RESPONSES, 200: LINES}
        differs = {"response_class": Response, "responses": answers, "openapi_extra": REQUEST}
        openapi.add_post(app, "/v1/studies", self.post, "Read the films of a study", said, **differs)

    async def post(self, request: Request) -> Response:
        """The route.

        Raises:
            Problem: the study as a whole is not taken; after that, a film's problem stands on its own line.
        """
        read_options(request)
        films = await receive_study(request, self._settings, self._admission)
        turns = asyncio.Semaphore(AT_ONCE)
        tasks = [asyncio.create_task(self._line(number, film, turns)) for number, film in enumerate(films)]
        for task in tasks:  # at the request's end, which may be that its client hung up
            request.state.context.held.callback(task.cancel)
        return StreamingResponse(_lines(tasks), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})

    async def _line(self, number: int, film: Arrived, turns: asyncio.Semaphore) -> FilmLine:
        try:
            with recorded(film.context, self._metrics):
                film.context.bytes = len(film.data)
                if len(film.data) > self._settings.max_bytes:
                    raise Problem("BodyTooLarge", f"the film is over {self._settings.max_bytes} bytes")
                async with turns:
                    return FilmLine(film=number, report=await self._reports.read(bytes(film.data), film.context, {}))
        except Problem as problem:
            document = problem.response(film.context.id).body
            return FilmLine(film=number, problem=ProblemDocument.model_validate_json(bytes(document)))
        finally:
            film.context.held.close()


async def _lines(tasks: "list[asyncio.Task[FilmLine]]") -> AsyncIterator[str]:
    """The films' lines as they come, then the study's."""
    reports: dict[int, Report] = {}
    for done in asyncio.as_completed(tasks):
        line = await done
        if line.report is not None:
            reports[line.film] = line.report
        yield line.model_dump_json(exclude_none=True) + "\n"
    yield StudyLine(study=summed_up(len(tasks), reports)).model_dump_json() + "\n"
