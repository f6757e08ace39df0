"""``GET /model``: the card of the two models that are served."""

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response

from gateway.problems import Problem
from gateway.routes.page_files import HEADERS
from workflows.active import Active
from workflows.server import Server
from workflows.store import card_of

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
"""The card is one file with its style in it, and no script."""


class Model:
    """The file that was deployed with the archives."""

    def __init__(self, server: Server, active: Active) -> None:
        self._server, self._active = server, active

    def mount(self, app: FastAPI) -> None:
        """The page, which needs no key."""
        app.add_api_route("/model", self.show, include_in_schema=False)

    def show(self) -> Response:
        """The route.

        Raises:
            Problem: NotReady, where the pair that is served came without a card.
        """
        name = self._active.name()
        try:
            card = (self._server.store / card_of(name)).read_bytes()
        except FileNotFoundError:
            raise Problem("NotReady", f"there is no model card of {name}: 'make archive' writes one") from None
        return HTMLResponse(card, headers={**HEADERS, "Content-Security-Policy": POLICY})
