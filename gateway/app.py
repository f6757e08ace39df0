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
from gateway.keys import KEYS_FILE, Keys
from gateway.metrics import Metrics
from gateway.request_path import add_request_path
from gateway.routes import openapi
from gateway.routes import page_files as page
from gateway.routes.health import Health, Readiness
from gateway.routes.images import Images
from gateway.routes.model import Model
from gateway.routes.reports import Reports
from gateway.routes.studies import Studies
from gateway.settings import Settings
from gateway.supervisor import Supervisor
from gateway.upstream import Upstream
from workflows.active import Active
from workflows.server import Server

logger = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """One gateway; ``app.state.admission`` is closed by whoever wants it to drain.

    Raises:
        workflows.server.ServerError: ``settings.server`` holds no configuration.
    """
    server = Server.of_folder(settings.server)
    active = Active.of(server)
    admission = Admission(settings.max_in_flight, settings.max_waiting, settings.max_wait)
    metrics = Metrics(admission)
    upstream = Upstream(server, settings.max_in_flight, metrics.answers_lost)
    supervisor = Supervisor(server, upstream, active, settings.restart_after)
    metrics.show_models(lambda: supervisor.models)
    keys = Keys(settings.secrets / KEYS_FILE)
    reports = Reports(settings, active, admission, upstream, supervisor, metrics)
    health = Health(admission, supervisor, active)

    app = FastAPIOffline(
        title="CXR Cascade",
        version="1",
        description=openapi.DESCRIPTION,
        redoc_url=None,
        static_url="/docs/static",
        redirect_slashes=False,
        lifespan=_lifespan(upstream, supervisor),
    )
    app.state.admission, app.state.metrics = admission, metrics
    add_request_path(app, keys, admission, supervisor, metrics)
    app.add_api_route("/health/live", health.live, summary="The process runs")
    not_ready: dict[int | str, dict[str, Any]] = {503: {"model": Readiness, "description": "Films are not taken."}}
    app.add_api_route("/health/ready", health.ready, responses=not_ready, summary="Films are taken")

    @app.get("/metrics", response_class=Response, summary="Counters in Prometheus' text format")
    async def show_metrics() -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    reports.mount(app)
    Images(settings).mount(app)
    Studies(settings, admission, reports, metrics).mount(app)
    Model(server, active).mount(app)
    page.mount(app)
    return app


def _lifespan(upstream: Upstream, supervisor: Supervisor) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        keeping = asyncio.create_task(supervisor.run())
        keeping.add_done_callback(_say_why_it_ended)
        yield
        keeping.cancel()
        await asyncio.wait({keeping})
        await upstream.aclose()

    return lifespan


def _say_why_it_ended(keeping: "asyncio.Task[None]") -> None:
    if not keeping.cancelled() and (fault := keeping.exception()):
        logger.error("TorchServe is no longer watched; restart the gateway", exc_info=fault)
