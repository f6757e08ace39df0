"""``GET /model``: the card of the two models that are served."""

import logging

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response

from gateway.page import HEADERS
from gateway.problems import Problem
from workflows.active import Active
from workflows.model_card import CardError, model_card_html
from workflows.register import archives_of
from workflows.server import Server

logger = logging.getLogger(__name__)

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
"""The card is one file with its style in it, and no script."""


class Model:
    """Makes the card anew where the served archives have changed: it hashes both whole."""

    def __init__(self, server: Server, active: Active) -> None:
        self._server, self._active = server, active
        self._stamp: object = None
        self._card = ""

    def mount(self, app: FastAPI) -> None:
        """The page, which needs no key."""
        app.add_api_route("/model", self.show, include_in_schema=False)

    async def show(self) -> Response:
        """The route.

        Raises:
            Problem: NotReady, where the archives cannot be read.
        """
        name = self._active.name()
        try:
            files = [(self._server.store / archive).stat() for archive in archives_of(name)]
            stamp = name, *((file.st_mtime_ns, file.st_size) for file in files)
            if stamp != self._stamp:
                self._card = await run_in_threadpool(model_card_html, self._server.store, name)
                self._stamp = stamp
        except (CardError, OSError) as fault:
            logger.error("no model card of %s: %s", name, fault)
            raise Problem("NotReady", f"there is no model card: the archives of {name} cannot be read") from None
        return HTMLResponse(self._card, headers={**HEADERS, "Content-Security-Policy": POLICY})
