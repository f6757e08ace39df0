"""``GET /model``: the card of the two models that are served."""

import asyncio
import logging

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from gateway.problems import Problem
from gateway.routes.page_files import HEADERS
from training.evaluation.model_card import CardError, model_card_html
from workflows.active import Active
from workflows.register import archives_of
from workflows.server import Server

logger = logging.getLogger(__name__)

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
"""The card is one file with its style in it, and no script."""


class Model:
    """Makes the card once for the archives as they are, since it hashes both whole: many who ask at once wait for the
    one that is being made, and archives without a card are not read again until they change."""

    def __init__(self, server: Server, active: Active) -> None:
        self._server, self._active = server, active
        self._making = asyncio.Lock()
        self._stamp: object = None
        self._card: str | CardError = ""

    def mount(self, app: FastAPI) -> None:
        """The page, which needs no key."""
        app.add_api_route("/model", self.show, include_in_schema=False)

    async def show(self) -> Response:
        """The route.

        Raises:
            Problem: NotReady, where the archives cannot be read.
        """
        name = self._active.name()
        card = await self._card_of(name)
        if isinstance(card, CardError):
            logger.error("no model card of %s: %s", name, card)
            raise Problem("NotReady", f"there is no model card: the archives of {name} cannot be read")
        return HTMLResponse(card, headers={**HEADERS, "Content-Security-Policy": POLICY})

    async def _card_of(self, name: str) -> str | CardError:
        try:
            files = [(self._server.store / archive).stat() for archive in archives_of(name)]
        except OSError as fault:
            return CardError(str(fault))
        stamp = name, *((file.st_mtime_ns, file.st_size) for file in files)
        async with self._making:
            if stamp != self._stamp:
                self._card, self._stamp = await run_in_threadpool(self._make, name), stamp
            return self._card

    def _make(self, name: str) -> str | CardError:
        try:
            return model_card_html(self._server.store, name)
        except CardError as fault:
            return fault
        except OSError as fault:
            return CardError(str(fault))
