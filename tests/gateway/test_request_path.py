"""The one path of every request: no route misses it, whoever adds it, and whatever becomes of the request."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI, HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message

from gateway.app import create_app
from gateway.keys import KEYS_FILE, make
from gateway.settings import Settings
from gateway.supervisor import Supervisor
from tests.gateway.conftest import Log
from tests.gateway.stand_in import StandIn

WITHOUT_MODELS = {"/v1/films": 400, "/v1/reports/{id}/feedback": 415, "/v1/drift": 404}
"""The routes that answer while the models do not, and how each answers an empty request."""
OPEN = {
    *("/", "/page", "/model", "/docs", "/docs/static", "/docs/oauth2-redirect", "/openapi.json"),
    *("/health/live", "/health/ready", "/metrics"),
}


class App:
    """The gateway's app in this process, TorchServe up, with a key."""

    def __init__(self, server: Path, secrets: Path) -> None:
        self.app: FastAPI = create_app(Settings(server=server, secrets=secrets, max_in_flight=1, max_waiting=0))
        self.key = make(secrets / KEYS_FILE, "ward-3")

    def ask(self, method: str, path: str, body: bytes | None, **headers: str) -> tuple[int, str]:
        """Status and text of the answer; without a body it is a fault to ask for one."""
        raw_path, _, query = path.partition("?")
        lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": raw_path, "raw_path": raw_path.encode(), "root_path": "",
                 "query_string": query.encode(), "headers": lines, "scheme": "http", "server": ("here", 80),
                 "http_version": "1.1", "asgi": {"version": "3.0", "spec_version": "2.3"}}  # fmt: skip
        answer: list[Message] = []
        gone = asyncio.Event()
        bodies = iter([body])

        async def receive() -> Message:
            assert body is not None, "the body was read"
            for one in bodies:
                return {"type": "http.request", "body": one}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            answer.append(message)

        asyncio.run(self.app(scope, receive, send))  # type: ignore[arg-type]
        start, *pieces = answer
        return start["status"], b"".join(one.get("body", b"") for one in pieces).decode()

    def as_holder(self, method: str, path: str, body: bytes | None, **headers: str) -> tuple[int, str]:
        return self.ask(method, path, body, authorization=f"Bearer {self.key}", **headers)

    def counted(self, **labels: str) -> float:
        """Of ``cxr_gateway_requests_total``, over all paths and outcomes that are not given."""
        (family,) = [one for one in self.app.state.metrics.registry.collect() if one.name == "cxr_gateway_requests"]
        return sum(one.value for one in family.samples if labels.items() <= one.labels.items())


@pytest.fixture
def gateway(stand_in_server: tuple[StandIn, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setattr(Supervisor, "ready", property(lambda _: True))
    _, server = stand_in_server
    return App(server, tmp_path / "secrets")


def add_routes(app: FastAPI) -> None:
    """As a later version might, without a thought of keys."""

    async def echo(request: Request) -> Response:
        return PlainTextResponse(await request.body())

    async def fail(_: Request) -> Response:
        raise ValueError("Doe^Jane is no number")

    async def own_fault(_: Request) -> Response:
        return PlainTextResponse("", 500)

    async def unavailable(_: Request) -> Response:
        raise HTTPException(502)

    async def typed(number: int) -> int:
        return number

    router = APIRouter(prefix="/v1")
    router.add_api_route("/included", echo, methods=["POST"])
    app.include_router(router)
    app.add_api_route("/v1/plain", echo, methods=["POST"])
    app.add_api_route("/v1/of/{anything}", echo, methods=["GET"])
    app.add_api_route("/v1/fails", fail)
    app.add_api_route("/v1/own-fault", own_fault)
    app.add_api_route("/v1/unavailable", unavailable)
    app.add_api_route("/v1/typed", typed)
    app.add_api_route("/v2/reports", echo, methods=["POST"])
    app.routes.append(Route("/v1/starlette", echo, methods=["POST"]))
    app.mount("/v1/mounted", PlainTextResponse("mounted"))


def closed_routes(app: FastAPI) -> list[tuple[str, str, str]]:
    """Method, address, and the path that metrics and log name it by."""
    found = []
    for route in app.routes:
        path = getattr(route, "path", None)
        if path is None:  # an included router keeps its routes to itself
            found.append(("POST", "/v1/included", "none"))
        elif path not in OPEN:
            method = next(iter(getattr(route, "methods", None) or ["GET"]))
            found.append((method, re.sub("{.*}", "x", path) + ("" if hasattr(route, "methods") else "/x"), path))
    return found


def test_the_routes_that_want_no_key_are_these_and_no_others(gateway: App) -> None:
    paths = {getattr(route, "path", None) for route in gateway.app.routes}
    assert paths - OPEN == {"/v1/reports", "/v1/films", "/v1/studies", *WITHOUT_MODELS}
    assert paths >= OPEN


@pytest.mark.parametrize("later", [False, True], ids=["its own routes", "with routes that are added later"])
def test_no_route_is_open_to_strangers_nor_reads_a_byte_of_theirs(gateway: App, log: Log, later: bool) -> None:
    if later:
        add_routes(gateway.app)
    for number, (method, address, path) in enumerate(closed_routes(gateway.app)):
        for key in ({}, {"authorization": "Bearer wrong"}):
            before = gateway.counted(path=path, outcome="unauthorized")
            status, problem = gateway.ask(method, address, None, x_request_id=f"stranger-{number}", **key)
            assert (status, json.loads(problem)["type"]) == (401, "urn:cxr:Unauthorized"), address
            assert gateway.counted(path=path, outcome="unauthorized") == before + 1
        line = log.line(request_id=f"stranger-{number}")
        assert (line["event"], line["status"], line["message"]) == ("request", 401, f"{method} {path}")
        assert "key" not in line
    assert gateway.app.state.admission.admitted == 0


@pytest.mark.parametrize("later", [False, True], ids=["its own routes", "with routes that are added later"])
def test_no_route_takes_a_request_while_the_gateway_drains(gateway: App, log: Log, later: bool) -> None:
    if later:
        add_routes(gateway.app)
    gateway.app.state.admission.closed = True
    for number, (method, address, path) in enumerate(closed_routes(gateway.app)):
        status, problem = gateway.as_holder(method, address, None, x_request_id=f"late-{number}")
        assert (status, json.loads(problem)["type"]) == (503, "urn:cxr:NotReady"), address
        assert gateway.counted(path=path, outcome="not_ready") == 1
        line = log.line(request_id=f"late-{number}")
        assert (line["status"], line["type"], line["key"]) == (503, "NotReady", "ward-3")


@pytest.mark.parametrize("later", [False, True], ids=["its own routes", "with routes that are added later"])
def test_no_route_holds_more_requests_than_are_admitted(gateway: App, log: Log, later: bool) -> None:
    if later:
        add_routes(gateway.app)
    with gateway.app.state.admission.admit():
        for method, address, path in closed_routes(gateway.app):
            if path in ("/v1/reports/{id}/feedback", "/v1/drift"):  # which hold no film
                assert gateway.as_holder(method, address, b"")[0] == WITHOUT_MODELS[path]
                continue
            status, problem = gateway.as_holder(method, address, None)
            assert (status, json.loads(problem)["type"]) == (429, "urn:cxr:QueueFull"), address
            assert gateway.counted(path=path, outcome="full") == 1


def test_only_what_needs_no_model_is_had_while_the_models_are_not_up(
    gateway: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Supervisor, "ready", property(lambda _: False))
    add_routes(gateway.app)
    for method, address, path in closed_routes(gateway.app):
        status, _ = gateway.as_holder(method, address, b"" if path in WITHOUT_MODELS else None)
        assert status == WITHOUT_MODELS.get(path, 503), address


@pytest.mark.parametrize("later", [False, True], ids=["its own routes", "with routes that are added later"])
def test_every_request_is_counted_once_and_logged_with_its_id_and_whose_key_it_came_with(
    gateway: App, log: Log, later: bool
) -> None:
    if later:
        add_routes(gateway.app)
    for number, (method, address, path) in enumerate(closed_routes(gateway.app)):
        all_before, before = gateway.counted(), gateway.counted(path=path)
        status, _ = gateway.as_holder(method, address, b"", x_request_id=f"known-{number}")
        assert (gateway.counted(), gateway.counted(path=path)) == (all_before + 1, before + 1), address
        line = log.line(request_id=f"known-{number}")
        assert (line["event"], line["key"], line["status"]) == ("request", "ward-3", status)
        assert line["milliseconds"]["total"] >= 0
    assert gateway.app.state.admission.admitted == 0


def test_a_fault_that_nobody_foresaw_is_counted_as_failed_and_not_quoted(gateway: App, log: Log) -> None:
    add_routes(gateway.app)
    status, problem = gateway.as_holder("GET", "/v1/fails", b"", x_request_id="fault-1")
    assert (status, json.loads(problem)["type"]) == (503, "urn:cxr:InternalError")
    assert gateway.as_holder("GET", "/v1/own-fault", b"")[0] == 500
    assert gateway.as_holder("GET", "/v1/unavailable", b"")[0] == 503
    assert all(
        gateway.counted(path=f"/v1/{name}", outcome="failed") == 1 for name in ("fails", "own-fault", "unavailable")
    )
    fault = log.line(event="fault")
    assert (fault["request_id"], fault["fault"].partition(" < ")[0]) == ("fault-1", "ValueError")
    assert log.line(event="request", request_id="fault-1")["type"] == "InternalError"
    assert "Jane" not in log.text + problem


def test_a_parameter_of_the_wrong_form_is_a_problem_document_that_does_not_quote_it(gateway: App, log: Log) -> None:
    add_routes(gateway.app)
    status, problem = gateway.as_holder("GET", "/v1/typed?number=Doe^Jane", b"")
    assert (status, json.loads(problem)["type"]) == (400, "urn:cxr:MalformedRequest")
    assert gateway.counted(path="/v1/typed", outcome="rejected") == 1
    assert "Jane" not in log.text + problem


@pytest.mark.parametrize(
    ("method", "address", "status", "path"),
    [
        ("POST", "/v1/nowhere", 404, "none"),
        ("GET", "/v1/reports", 405, "/v1/reports"),
        ("GET", "/Doe^Jane", 404, "none"),
        ("DOE^JANE", "/v1/reports", 405, "/v1/reports"),
    ],
)
def test_requests_that_no_route_takes_are_counted_and_logged_without_their_address(
    gateway: App, log: Log, method: str, address: str, status: int, path: str
) -> None:
    assert gateway.ask(method, address, None, x_request_id="lost-1")[0] == status
    assert gateway.counted(path=path, outcome="rejected") == gateway.counted() == 1
    line = log.line(request_id="lost-1")
    assert (line["message"], line["status"]) == (f"{'other' if '^' in method else method} {path}", status)
    assert "jane" not in log.text.lower()


def test_what_anybody_may_ask_for_is_not_counted_among_the_requests(gateway: App) -> None:
    for path in ("/", "/page/app.js", "/docs", "/openapi.json", "/health/live", "/metrics"):
        assert gateway.ask("GET", path, b"")[0] == 200
    assert gateway.counted() == 0
