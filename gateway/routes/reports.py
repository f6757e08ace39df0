"""``POST /v1/reports``: one film in, its report out."""

import asyncio
import logging
from functools import partial
from typing import Annotated
from uuid import uuid4

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from gateway.admission import Admission
from gateway.body import read_options, receive_film
from gateway.kept_films import KeptFilms
from gateway.metrics import Metrics
from gateway.problems import Problem
from gateway.records import Records
from gateway.report_forms import ReportForms, form_asked
from gateway.request_context import RequestContext
from gateway.request_path import RETRY_AFTER
from gateway.routes import openapi
from gateway.routes.openapi import FORMAT, HEATMAPS
from gateway.served_pair import ServedPair
from gateway.settings import Settings
from gateway.supervisor import Supervisor
from gateway.upstream import NotServed, Upstream
from handlers.report import Refusal, Report
from workflows.active import Active

logger = logging.getLogger(__name__)


class Reports:
    """Takes a film that was admitted to its report: it arrives, waits for a slot, and is read by TorchServe."""

    def __init__(
        self,
        settings: Settings,
        active: Active,
        admission: Admission,
        upstream: Upstream,
        supervisor: Supervisor,
        metrics: Metrics,
        records: Records,
        pair: ServedPair,
        films: KeptFilms | None,
    ) -> None:
        self._settings, self._active, self._admission = settings, active, admission
        self._upstream, self._supervisor, self._metrics = upstream, supervisor, metrics
        self._forms = ReportForms()
        self._records, self._pair, self._films = records, pair, films

    def mount(self, app: FastAPI) -> None:
        """The route, and what ``/docs`` says of it."""
        said = "One film in, its report out."
        openapi.add_post(
            app, "/v1/reports", self.post, "Read one film", said, response_model=Report, responses=openapi.IN_FORMS
        )

    async def post(
        self,
        request: Request,
        heatmaps: Annotated[str | None, HEATMAPS] = None,
        format: Annotated[str | None, FORMAT] = None,
    ) -> Response:
        """The route. The parameters stand there for ``/docs``; what counts is the whole query.

        Raises:
            Problem: no report.
        """
        options = read_options(request, "heatmaps", "format")
        form = form_asked(request.headers.get("accept", ""), options)
        film = await receive_film(request, self._settings)
        self._forms.check(form, film)
        report = await self.read(film, request.state.context, options)
        return await self._forms.answer(form, film, report)

    async def read(self, film: bytes, context: RequestContext, options: dict[str, str]) -> Report:
        """A film that has arrived, of a study too.

        Raises:
            Problem: no report.
        """
        asked = {**options, "quality": "correct"} if self._settings.quality == "correct" else options
        report = await self._admission.read(context, partial(self._ask_torchserve, film, context, asked))
        if report.quality is not None:
            if "heatmaps" not in options:
                self._metrics.count_quality(report.quality)
            if self._settings.quality == "refuse" and not report.quality.readable:
                raise Problem(
                    "NotAChestFilm", f"the models cannot read this film: {'; '.join(report.quality.warnings)}"
                )
        context.routed = report.routed
        route, heatmaps = "routed" if report.routed else "skipped", str("heatmaps" in options).lower()
        self._metrics.films.labels(route, heatmaps).inc()
        return await self._noted(report, film, context, "heatmaps" in options)

    async def _noted(self, report: Report, film: bytes, context: RequestContext, seen_before: bool) -> Report:
        """The report with its id, once it is noted; without one, where it cannot be."""
        id, pair = uuid4().hex, self._pair.id(context.workflow)
        if not await self._records.note(id, context.key or "", pair, report, seen_before):
            return report
        if self._films is not None and not seen_before:
            await self._films.keep(id, film)
        return report.model_copy(update={"id": id})

    async def _ask_torchserve(self, film: bytes, context: RequestContext, options: dict[str, str]) -> Report | Refusal:
        context.workflow = self._active.name()
        try:
            async with asyncio.timeout(self._settings.deadline):
                answer = await self._upstream.read(film, context.id, context.workflow, options)
        except TimeoutError:
            self._supervisor.failed()
            raise Problem("DeadlinePassed", f"no report within {self._settings.deadline:g} s") from None
        except NotServed as fault:
            self._supervisor.failed()
            # What follows the colon is TorchServe's own text, which might hold anything.
            logger.warning("not served: %s", str(fault).partition(": ")[0], extra={"event": "not_served"})
            detail = "the models gave no answer; they are started again if they stay silent"
            raise Problem("NotServed", detail, retry_after=RETRY_AFTER) from None
        if isinstance(answer, Refusal) and answer.fault:
            self._supervisor.failed()
        else:
            self._supervisor.succeeded(answer)
        return answer
