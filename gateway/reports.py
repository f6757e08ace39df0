"""``POST /v1/reports``: one film in, its report out."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Annotated, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from gateway.admission import Admission
from gateway.bearer import holder_of
from gateway.body import read_film
from gateway.keeper import Keeper
from gateway.keys import Keys
from gateway.logs import Record
from gateway.metrics import Metrics
from gateway.openapi import HEATMAPS
from gateway.problems import Problem
from gateway.settings import Settings
from gateway.upstream import NotServed, Upstream
from handlers.report import Refusal, Report
from workflows.active import Active

Answer = TypeVar("Answer")

RETRY_AFTER = 5.0
"""Seconds; TorchServe is being started again, or another gateway takes over."""
OPTION = "heatmaps"
HUNG_UP = 499
"""For the log alone: nobody is there to read it (nginx's number)."""

logger = logging.getLogger(__name__)


class Reports:
    """Takes a film from its request to its report.

    The order: key, readiness, seat, body, place, TorchServe. A client without a key costs no memory; one that is slow
    holds no place; one that hangs up leaves the line at once. A film that TorchServe has already cannot be recalled: it
    keeps its seat and place until TorchServe has answered or the deadline has passed, whoever still listens.
    """

    def __init__(
        self,
        settings: Settings,
        keys: Keys,
        active: Active,
        admission: Admission,
        upstream: Upstream,
        keeper: Keeper,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._active = active
        self._admission = admission
        self._upstream = upstream
        self._keeper = keeper
        self._metrics = metrics
        self._readings: set[asyncio.Task[Report | Refusal]] = set()

    async def post(self, request: Request, heatmaps: Annotated[str | None, HEATMAPS] = None) -> Response:
        """The route. ``heatmaps`` stands there for ``/docs``; what counts is the whole query.

        Raises:
            Problem: no report.
        """
        record: Record = request.state.record
        outcome = "failed"
        try:
            with self._timed("total", record):
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
            return Response(status_code=HUNG_UP)
        finally:
            self._metrics.requests.labels(outcome).inc()

    async def _report(self, request: Request, record: Record) -> Report:
        record.key = holder_of(request, self._keys)
        options = _options(request)
        if self._admission.closed or not self._keeper.ready:
            why = "the gateway is going down" if self._admission.closed else "the models are not up yet"
            raise Problem("NotReady", why, retry_after=RETRY_AFTER)
        async with AsyncExitStack() as held:
            held.enter_context(self._admission.seat())
            with self._timed("upload", record):
                film = await read_film(request, self._settings.max_bytes, self._settings.upload)
            record.bytes = len(film)
            with self._timed("wait", record):
                await _unless_hung_up(request, held.enter_async_context(self._admission.place()))
            reading = self._start(film, record, options, held.pop_all())
        answer = await _unless_hung_up(request, asyncio.shield(reading))
        if isinstance(answer, Refusal):
            raise Problem.of_refusal(answer)
        return answer

    def _start(
        self, film: bytes, record: Record, options: dict[str, str], held: AsyncExitStack
    ) -> "asyncio.Task[Report | Refusal]":
        """The film on its way, in a task that outlives a client who hangs up; ``held`` is given back at its end."""
        reading = asyncio.create_task(self._read(film, record, options, held))
        self._readings.add(reading)
        reading.add_done_callback(self._finish)
        return reading

    async def _read(
        self, film: bytes, record: Record, options: dict[str, str], held: AsyncExitStack
    ) -> Report | Refusal:
        async with held:
            try:
                with self._timed("read", record):
                    async with asyncio.timeout(self._settings.deadline):
                        answer = await self._upstream.read(film, record.id, self._active.name(), options)
                self._keeper.saw()
                return answer
            except TimeoutError:
                self._keeper.failed()
                raise Problem("DeadlinePassed", f"no report within {self._settings.deadline:g} s") from None
            except NotServed as fault:
                self._keeper.failed()
                # What follows the colon is TorchServe's own text, which might hold anything.
                logger.warning("not served: %s", str(fault).partition(": ")[0], extra=_event(record))
                detail = "the models gave no answer; they are started again if they stay silent"
                raise Problem("NotServed", detail, retry_after=RETRY_AFTER) from None

    def _finish(self, reading: "asyncio.Task[Report | Refusal]") -> None:
        self._readings.discard(reading)
        if not reading.cancelled():
            reading.exception()  # of a film whose client hung up: nobody else asks for it

    @contextmanager
    def _timed(self, stage: str, record: Record) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self._metrics.seconds.labels(stage).observe(seconds)
            record.milliseconds[stage] = round(seconds * 1000.0, 1)


def _options(request: Request) -> dict[str, str]:
    """A misspelt option is refused: one that is ignored would answer another question than was asked."""
    given = request.query_params.multi_items()
    for name, _ in given:
        if name != OPTION:
            raise Problem("UnknownParameter", f"the query parameter {name[:40]!r} is not known here")
    if len(given) > 1:
        raise Problem("UnknownParameter", f"'{OPTION}' stands there twice; name all findings in one, with commas")
    return dict(given)


def _event(record: Record) -> dict[str, str]:
    return {"event": "not_served", "request_id": record.id}


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
