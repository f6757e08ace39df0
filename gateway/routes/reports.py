"""``POST /v1/reports``: one film in, its report out."""

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Annotated, TypeVar

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway.admission import Admission
from gateway.bearer import BEARER, holder_of
from gateway.body import read_film
from gateway.keys import Keys
from gateway.logs import Record
from gateway.metrics import Metrics
from gateway.problems import Problem
from gateway.readings import Readings
from gateway.routes import openapi
from gateway.routes.openapi import HEATMAPS
from gateway.settings import Settings
from handlers.report import Refusal, Report

Answer = TypeVar("Answer")

OPTION = "heatmaps"


class Reports:
    """Takes a film from its request to its report.

    The order: key, readiness, admission, body, place, TorchServe. A client without a key costs no memory; one that is
    slow holds no place; one that hangs up leaves the line at once. A film that TorchServe has already cannot be
    recalled: it stays admitted, in its place, until TorchServe has answered or the deadline has passed, whoever still
    listens.
    """

    def __init__(
        self, settings: Settings, keys: Keys, admission: Admission, readings: Readings, metrics: Metrics
    ) -> None:
        self._settings, self._keys, self._admission = settings, keys, admission
        self._readings, self._metrics = readings, metrics

    def mount(self, app: FastAPI) -> None:
        """The route, and what ``/docs`` says of it."""
        app.add_api_route(
            "/v1/reports",
            self.post,
            methods=["POST"],
            summary="Read one film",
            description="One film in, its report out.",
            response_model=Report,
            responses=openapi.RESPONSES,
            openapi_extra=openapi.REQUEST,
            dependencies=[BEARER],
        )

    async def post(self, request: Request, heatmaps: Annotated[str | None, HEATMAPS] = None) -> Response:
        """The route. ``heatmaps`` stands there for ``/docs``; what counts is the whole query.

        Raises:
            Problem: no report.
        """
        record: Record = request.state.record
        outcome = "failed"
        try:
            with self._readings.timed("total", record):
                report = await self._report(request, record)
            outcome, record.routed = "read", report.routed
            self._metrics.films.labels("routed" if report.routed else "skipped").inc()
            return Response(report.model_dump_json(), media_type="application/json")
        except Problem as problem:
            outcome = problem.outcome
            self._metrics.refused.labels(problem.type).inc()
            raise
        except ClientDisconnect:
            outcome = "hung_up"
            raise
        finally:
            self._metrics.requests.labels(outcome).inc()

    async def _report(self, request: Request, record: Record) -> Report:
        record.key = holder_of(request, self._keys)
        options = _options(request)
        self._readings.check_open()
        async with AsyncExitStack() as held:
            held.enter_context(self._admission.admit())
            with self._readings.timed("upload", record):
                film = await read_film(request, self._settings.max_bytes, self._settings.upload)
            record.bytes = len(film)
            with self._readings.timed("wait", record):
                await _unless_hung_up(request, held.enter_async_context(self._admission.place()))
            reading = self._readings.start(film, record, options, held.pop_all())
        answer = await _unless_hung_up(request, asyncio.shield(reading))
        if isinstance(answer, Refusal):
            raise Problem.of_refusal(answer)
        return answer


def _options(request: Request) -> dict[str, str]:
    """A misspelt option is refused: one that is ignored would answer another question than was asked."""
    given = request.query_params.multi_items()
    for name, _ in given:
        if name != OPTION:
            raise Problem("UnknownParameter", f"the query parameter {name[:40]!r} is not known here")
    if len(given) > 1:
        raise Problem("UnknownParameter", f"'{OPTION}' stands there twice; name all findings in one, with commas")
    return dict(given)


async def _unless_hung_up(request: Request, work: Awaitable[Answer]) -> Answer:
    """What ``work`` gives, or ClientDisconnect, and ``work`` cancelled, as soon as the client hangs up."""
    working = asyncio.ensure_future(work)
    gone = asyncio.create_task(_hang_up(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        gone.cancel()
        if working.cancel():
            await asyncio.wait({working})


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
