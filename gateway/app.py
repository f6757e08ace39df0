"""The gateway as an ASGI application: what it is made of, and its pages."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.admission import Admission
from gateway.kept_films import KeptFilms
from gateway.keys import KEYS_FILE, Keys
from gateway.metrics import Metrics
from gateway.records import Records
from gateway.request_path import add_request_path
from gateway.routes import openapi
from gateway.routes import page_files as page
from gateway.routes.drift import DriftRoute
from gateway.routes.feedback import FeedbackRoute
from gateway.routes.health import Health, Readiness
from gateway.routes.images import Images
from gateway.routes.model import Model
from gateway.routes.reports import Reports
from gateway.routes.studies import Studies
from gateway.served_pair import ServedPair
from gateway.settings import Settings
from gateway.supervisor import Supervisor
from gateway.upstream import Upstream
from workflows.active import Active
from workflows.server import Server

PRUNE_EVERY = 3600.0
"""Seconds."""

logger = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """One gateway; ``app.state.admission`` is closed by whoever wants it to drain.

    Raises:
        workflows.server.ServerError: ``settings.server`` holds no configuration.
        gateway.records.RecordsFault: another program's file lies where the records belong, or their URL is none.
    """
    server = Server.of_folder(settings.server)
    active = Active.of(server)
    admission = Admission(settings.max_in_flight, settings.max_waiting, settings.max_wait)
    metrics = Metrics(admission)
    upstream = Upstream(server, settings.max_in_flight, metrics.answers_lost)
    supervisor = Supervisor(server, upstream, active, settings.restart_after)
    metrics.show_models(lambda: supervisor.models)
    keys = Keys(settings.secrets / KEYS_FILE)
    records = Records(settings.records_place, settings.records_days, settings.records_number, metrics.records_failed)
    pair, films = ServedPair(server, active), _kept_films(settings)
    reports = Reports(settings, active, admission, upstream, supervisor, metrics, records, pair, films)
    drift = DriftRoute(settings.drift_days, records, pair, metrics)
    health = Health(admission, supervisor, active, records, settings.keep_films)

    app = FastAPIOffline(
        title="CXR Cascade",
        version="1",
        description=openapi.DESCRIPTION,
        redoc_url=None,
        static_url="/docs/static",
        redirect_slashes=False,
        lifespan=_lifespan(upstream, supervisor, records, films),
    )
    app.state.admission, app.state.metrics = admission, metrics
    add_request_path(app, keys, admission, supervisor, metrics)
    app.add_api_route("/health/live", health.live, summary="The process runs")
    not_ready: dict[int | str, dict[str, Any]] = {503: {"model": Readiness, "description": "Films are not taken."}}
    app.add_api_route("/health/ready", health.ready, responses=not_ready, summary="Films are taken")

    @app.get("/metrics", response_class=Response, summary="Counters in Prometheus' text format")
    async def show_metrics() -> Response:
        await drift.show()
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    reports.mount(app)
    Images(settings).mount(app)
    Studies(settings, admission, reports, metrics).mount(app)
    FeedbackRoute(settings, records, metrics).mount(app)
    drift.mount(app)
    Model(server, active).mount(app)
    page.mount(app)
    return app


def _kept_films(settings: Settings) -> KeptFilms | None:
    if not settings.keep_films:
        return None
    return KeptFilms(settings.films_folder, settings.keep_films_days, settings.keep_films_mb * 10**6)


def _lifespan(
    upstream: Upstream, supervisor: Supervisor, records: Records, films: KeptFilms | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        keeping = asyncio.create_task(supervisor.run())
        keeping.add_done_callback(_say_why_it_ended)
        pruning = asyncio.create_task(_prune(records, films))
        yield
        keeping.cancel()
        pruning.cancel()
        await asyncio.wait({keeping, pruning})
        await upstream.aclose()
        await records.aclose()

    return lifespan


async def _prune(records: Records, films: KeptFilms | None) -> None:
    """Whether requests come or not: what is too old goes."""
    while True:
        await records.prune()
        if films is not None:
            await films.prune()
        await asyncio.sleep(PRUNE_EVERY)


def _say_why_it_ended(keeping: "asyncio.Task[None]") -> None:
    if not keeping.cancelled() and (fault := keeping.exception()):
        logger.error("TorchServe is no longer watched; restart the gateway", exc_info=fault)
