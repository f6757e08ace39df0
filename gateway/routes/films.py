"""``POST /v1/films``: one film in, its picture out, as the models get it."""

import os
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from gateway.admission import Admission
from gateway.bearer import BEARER, holder_of
from gateway.body import read_film
from gateway.keys import Keys
from gateway.logs import Record
from gateway.problems import Problem
from gateway.render_pool import RenderPool
from gateway.routes import openapi
from gateway.settings import Settings
from handlers.report import Refusal

PICTURE: dict[str, Any] = {
    "description": "8-bit grey PNG at the film's full resolution, windowed, dense structures bright.",
    "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
}


class Films:
    """Takes a film from its request to its picture, without the models.

    The film is admitted among those that are read, so that all bodies in memory are bounded together, and a place in a
    line of its own: pictures that are looked at never hold up reports.
    """

    def __init__(self, settings: Settings, keys: Keys, admission: Admission) -> None:
        processes = min(4, os.cpu_count() or 1)
        self._settings, self._keys, self._admission = settings, keys, admission
        self._line = Admission(processes, settings.waiting, settings.wait)
        self._darkroom = RenderPool(processes)

    def mount(self, app: FastAPI) -> None:
        """The route, and what ``/docs`` says of it."""
        app.add_api_route(
            "/v1/films",
            self.post,
            methods=["POST"],
            summary="Show one film",
            description="One film in, its picture out: what the models get, before it is made square.",
            response_class=Response,
            responses={**openapi.RESPONSES, 200: PICTURE},
            openapi_extra=openapi.REQUEST,
            dependencies=[BEARER],
        )

    async def post(self, request: Request) -> Response:
        """The route: 8-bit grey PNG at full resolution; DICOM windowed, dense structures bright.

        Raises:
            Problem: no picture; as ``/v1/reports`` refuses.
        """
        record: Record = request.state.record
        record.key = holder_of(request, self._keys)
        if request.query_params:
            raise Problem("UnknownParameter", "this page takes no query parameters")
        with self._admission.admit():
            film = await read_film(request, self._settings.max_bytes, self._settings.upload)
            record.bytes = len(film)
            async with self._line.place():
                answer = await self._darkroom.render(film)
        if isinstance(answer, Refusal):
            raise Problem.of_refusal(answer)
        return Response(answer, media_type="image/png", headers={"Cache-Control": "no-store"})
