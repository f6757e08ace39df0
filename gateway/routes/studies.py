"""``POST /v1/studies``: the films of one study in, a line for each as it is done out, and the study summed up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.admission import Admission
from gateway.bearer import BEARER, holder_of
from gateway.body import FIELD, FORM
from gateway.keys import Keys
from gateway.logs import Record
from gateway.metrics import Metrics
from gateway.problems import Problem, ProblemDocument
from gateway.readings import Readings
from gateway.routes import openapi
from gateway.routes.study_summary import FilmLine, StudyLine, summed_up
from gateway.settings import Settings
from gateway.study_form import MAX_FILMS, Arrived, read_study
from handlers.report import Refusal, Report

MEDIA_TYPE = "application/x-ndjson"
AT_ONCE = 4
"""Films of one study that wait for a place or have one: a study leaves room for others."""
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
    """Takes a study from its request to its last line. Each film is let in and read as by ``/v1/reports``."""

    def __init__(
        self, settings: Settings, keys: Keys, admission: Admission, readings: Readings, metrics: Metrics
    ) -> None:
        self._settings, self._keys, self._admission = settings, keys, admission
        self._readings, self._metrics = readings, metrics
        self._tasks: set[asyncio.Task[FilmLine]] = set()

    def mount(self, app: FastAPI) -> None:
        """The route, and what ``/docs`` says of it."""
        app.add_api_route(
            "/v1/studies",
            self.post,
            methods=["POST"],
            summary="Read the films of a study",
            description="Many films in; each one's report or problem out as it is done, and the study summed up.",
            response_class=Response,
            responses={**openapi.RESPONSES, 200: LINES},
            openapi_extra=REQUEST,
            dependencies=[BEARER],
        )

    async def post(self, request: Request) -> Response:
        """The route.

        Raises:
            Problem: the study as a whole is not taken; after that, a film's problem stands on its own line.
        """
        record: Record = request.state.record
        record.key = holder_of(request, self._keys)
        if request.query_params:
            raise Problem("UnknownParameter", "this page takes no query parameters")
        self._readings.check_open()
        with self._readings.timed("upload", record):
            films = await read_study(request, self._settings.max_bytes, self._settings.upload, self._admission)
        record.bytes = sum(len(film.data) for film in films)
        # Begun before the answer is: a client who has hung up by then must not keep films admitted.
        turns = asyncio.Semaphore(AT_ONCE)
        tasks = [self._begin(place, film, record, turns) for place, film in enumerate(films)]
        return StreamingResponse(_lines(tasks), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})

    def _begin(self, place: int, film: Arrived, record: Record, turns: asyncio.Semaphore) -> "asyncio.Task[FilmLine]":
        own = Record(f"{record.id[:60]}.{place}", key=record.key, bytes=len(film.data))
        task = asyncio.create_task(self._line(place, film, own, turns))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: film.admitted.close())  # of a task that was let go before it began
        return task

    async def _line(self, place: int, film: Arrived, record: Record, turns: asyncio.Semaphore) -> FilmLine:
        outcome = "hung_up"
        try:
            async with AsyncExitStack() as held:
                held.enter_context(film.admitted.pop_all())
                async with turns:
                    report = await self._report(film, record, held)
            outcome = "read"
            self._metrics.films.labels("routed" if report.routed else "skipped").inc()
            return FilmLine(film=place, report=report)
        except Problem as problem:
            outcome = problem.outcome
            self._metrics.refused.labels(problem.type).inc()
            document = problem.response(record.id).body
            return FilmLine(film=place, problem=ProblemDocument.model_validate_json(bytes(document)))
        finally:
            self._metrics.requests.labels(outcome).inc()

    async def _report(self, film: Arrived, record: Record, held: AsyncExitStack) -> Report:
        if len(film.data) > self._settings.max_bytes:
            raise Problem("BodyTooLarge", f"the film is over {self._settings.max_bytes} bytes")
        with self._readings.timed("wait", record):
            await held.enter_async_context(self._admission.place())
        answer = await asyncio.shield(self._readings.start(bytes(film.data), record, {}, held.pop_all()))
        if isinstance(answer, Refusal):
            raise Problem.of_refusal(answer)
        return answer


async def _lines(tasks: "list[asyncio.Task[FilmLine]]") -> AsyncIterator[str]:
    """The films' lines as they come, then the study's. Those that wait are let go where nobody listens any more."""
    reports: dict[int, Report] = {}
    try:
        for done in asyncio.as_completed(tasks):
            line = await done
            if line.report is not None:
                reports[line.film] = line.report
            yield line.model_dump_json(exclude_none=True) + "\n"
        yield StudyLine(study=summed_up(len(tasks), reports)).model_dump_json() + "\n"
    finally:
        for task in tasks:
            task.cancel()
