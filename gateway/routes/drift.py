"""``GET /v1/drift``: whether the last films look like the validation films."""

import time
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from fastapi import FastAPI, Query
from pydantic import Field
from starlette.requests import Request

from gateway.body import read_options
from gateway.drift import Change, compare
from gateway.metrics import Metrics
from gateway.problems import Problem
from gateway.records import DAYS_OF_FILMS, Records
from gateway.request_path import DRIFT
from gateway.routes import openapi
from gateway.served_pair import ServedPair
from handlers.report import Schema

STALE = 60.0
"""Seconds for which the metrics show what was compared before."""
DAYS = Query(description="days that the films are of, today (UTC) with them; the setting unless told", ge=1)


class Drift(Schema):
    """The films that the served pair of models has read beside its validation films."""

    pair: str = Field(description="of models: films that another pair read are not among these")
    since: date = Field(description="first day, UTC")
    days: int = Field(description="today with them")
    moved: list[str] = Field(description="the quantities that have changed")
    quantities: dict[str, Change] = Field(
        description="stage 1's probability (`Finding`), each finding's on routed films, `in_distribution`, and the "
        "films' `brightness`, `size` (the square root of width x height, px) and `modality`"
    )


class DriftRoute:
    """Compares, and keeps the metrics up to date."""

    def __init__(self, days: int, records: Records, pair: ServedPair, metrics: Metrics) -> None:
        self._days, self._records, self._pair, self._metrics = days, records, pair, metrics
        self._shown = float("-inf")

    def mount(self, app: FastAPI) -> None:
        """The route, and what ``/docs`` says of it."""
        said = (
            "A quantity has `moved` where the change is large and not by chance. Reports with heatmaps do not count: "
            "their films were read before. Nothing of a film or a patient is in it."
        )
        answers: dict[int | str, dict[str, Any]] = {
            status: openapi.problem(status, reason) for status, reason in openapi.DRIFT_REASONS.items()
        }
        app.add_api_route(
            DRIFT,
            self.get,
            response_model=Drift,
            summary="Whether films have changed",
            description=said,
            responses=answers,
            dependencies=[openapi.BEARER],
        )

    async def get(self, request: Request, days: Annotated[int | None, DAYS] = None) -> Drift:
        """The route.

        Raises:
            Problem: MalformedRequest, UnknownParameter, NoReference.
        """
        read_options(request, "days")
        wanted = self._days if days is None else days
        if wanted > DAYS_OF_FILMS:
            raise Problem("MalformedRequest", f"films are counted for {DAYS_OF_FILMS} days, not {wanted}")
        changes = await self._compare(wanted)
        if not changes:
            detail = (
                "the archives that are served hold no validation films' histograms: 'make evaluate archive' adds them"
            )
            raise Problem("NoReference", detail)
        since = datetime.now(UTC).date() - timedelta(days=wanted - 1)
        moved = [name for name, change in changes.items() if change.moved]
        return Drift(pair=self._pair.id(), since=since, days=wanted, moved=moved, quantities=changes)

    async def show(self) -> None:
        """Brings the metrics up to date, once in ``STALE`` seconds."""
        if time.monotonic() - self._shown < STALE:
            return
        self._shown = time.monotonic()
        self._metrics.show_drift(await self._compare(self._days))

    async def _compare(self, days: int) -> dict[str, Change]:
        known = self._pair.reference()
        if not known.histograms:
            return {}
        films = await self._records.films(self._pair.id(), days)
        return compare(known.histograms, films, known.design_effects)
