"""``POST /v1/films``: one film in, its picture out, as the models get it."""

from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from gateway.admission import Slots
from gateway.body import read_options, receive_film
from gateway.render_pool import RenderPool
from gateway.routes import openapi
from gateway.settings import Settings
from handlers.processors import processors

PICTURE: dict[str, Any] = {
    "description": "8-bit grey PNG at the film's full resolution, windowed, dense structures bright.",
    "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
}


class Images:
    """Takes a film that was admitted to its picture, without the models.

    It is admitted among those that are read, so that all bodies in memory are bounded together, but waits for slots of
    its own: pictures that are looked at never hold up reports.
    """

    def __init__(self, settings: Settings) -> None:
        processes = min(4, processors())
        self._settings = settings
        self._slots = Slots(processes, settings.max_wait)
        self._renderers = RenderPool(processes)

    def mount(self, app: FastAPI) -> None:
        """The route, and what ``/docs`` says of it."""
        said = "One film in, its picture out: what the models get, before it is made square."
        answers = {**openapi.RESPONSES, 200: PICTURE}
        openapi.add_post(app, "/v1/films", self.post, "Show one film", said, response_class=Response, responses=answers)

    async def post(self, request: Request) -> Response:
        """The route: 8-bit grey PNG at full resolution; DICOM windowed, dense structures bright.

        Raises:
            Problem: no picture; as ``/v1/reports`` refuses.
        """
        read_options(request)
        film = await receive_film(request, self._settings)
        picture: bytes = await self._slots.read(request.state.context, partial(self._renderers.render, film))
        return Response(picture, media_type="image/png", headers={"Cache-Control": "no-store"})
