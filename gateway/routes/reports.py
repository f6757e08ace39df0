"""``POST /v1/reports``: one film in, its report out."""

import asyncio
import logging
from functools import partial
from typing import Annotated

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from gateway.admission import Admission
from gateway.body import read_options, receive_film
from gateway.metrics import Metrics
from gateway.problems import Problem
from gateway.request_context import RequestContext
from gateway.request_path import RETRY_AFTER
from gateway.routes import openapi
from gateway.routes.openapi import HEATMAPS
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
    ) -> None:
        self._settings, self._active, self._admission = settings, active, admission
        self._upstream, self._supervisor, self._metrics = upstream, supervisor, metrics

    def mount(self, app: FastAPI) -> None:
        """The route, and what ``/docs`` says of it."""
        said = "One film in, its report out."
        openapi.add_post(app, "/v1/reports", self.post, "Read one film", said, response_model=Report)

    async def post(self, request: Request, heatmaps: Annotated[str | None, HEATMAPS] = None) -> Response:
        """The route. ``heatmaps`` stands there for ``/docs``; what counts is the whole query.

        Raises:
            Problem: no report.
        """
        options = read_options(request, "heatmaps")
        film = await receive_film(request, self._settings)
        report = await self.read(film, request.state.context, options)
        return Response(report.model_dump_json(), media_type="application/json")

    async def read(self, film: bytes, context: RequestContext, options: dict[str, str]) -> Report:
        """A film that has arrived, of a study too.

        Raises:
            Problem: no report.
        """
        asked = {**options, "quality": "correct"} if self._settings.quality == "correct" else options
        report = await self._admission.read(context, partial(self._ask_torchserve, film, context.id, asked))
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
        return report

    async def _ask_torchserve(self, film: bytes, request_id: str, options: dict[str, str]) -> Report | Refusal:
        try:
            async with asyncio.timeout(self._settings.deadline):
                answer = await self._upstream.read(film, request_id, self._active.name(), options)
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
            self._supervisor.succeeded()
        return answer
