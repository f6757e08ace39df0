"""The path of every request, round all routes as ASGI middleware, so that no route can miss it: an id; whose key it is;
whether requests are taken; admission; and at the end, whatever that is, its metrics and its line in the log.
"""

import asyncio
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPMethod
from typing import NoReturn
from uuid import uuid4

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from gateway.admission import Admission
from gateway.keys import Keys
from gateway.metrics import Metrics
from gateway.problems import OWN, Problem
from gateway.request_context import NO_ROUTE, RequestContext
from gateway.supervisor import Supervisor

POLLED = ("/health/live", "/health/ready", "/metrics")
"""Asked every few seconds; logged only where the answer is an error."""
OPEN = frozenset({*POLLED, "/", "/page", "/model", "/docs", "/docs/static", "/docs/oauth2-redirect", "/openapi.json"})
"""The routes that want no key and are not counted. Any other is closed to strangers, whoever adds it."""
FEEDBACK, DRIFT = "/v1/reports/{id}/feedback", "/v1/drift"
WITHOUT_FILMS = frozenset({FEEDBACK, DRIFT})
"""The routes that take no film: they are answered while as many are held as may be."""
WITHOUT_MODELS = WITHOUT_FILMS | {"/v1/films"}
"""The routes that answer while TorchServe does not."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Of an ``X-Request-ID`` that is taken over; any other is replaced."""
RETRY_AFTER = 5.0
"""Seconds; TorchServe is being started again, or another gateway takes over."""
HUNG_UP = 499
"""For the log alone: nobody is there to read it (nginx's number)."""

logger = logging.getLogger(__name__)


@contextmanager
def recorded(context: RequestContext, metrics: Metrics) -> Iterator[None]:
    """Counts and logs a request, or a film of a study, at its end.

    Raises:
        Problem: the request's own, or InternalError in place of a fault that nobody foresaw.
    """
    began, outcome = time.perf_counter(), "read"
    problem: Problem | None = None
    with bound_contextvars(request_id=context.id):
        try:
            yield
            context.status = context.status or 200
            if context.status >= 400:  # a route's own answer, without a Problem
                outcome = "failed" if context.status >= 500 else "rejected"
        except (asyncio.CancelledError, ClientDisconnect):
            outcome, status = (OWN[context.type].outcome, context.status) if context.type else ("hung_up", HUNG_UP)
            context.status = status
            raise
        except Exception as fault:
            problem = fault if isinstance(fault, Problem) else _internal_error()
            outcome, context.type = problem.outcome, problem.type
            context.status = context.status or problem.status
            raise problem from None
        finally:
            problem = None  # else this frame and it hold each other, and the film, until a full garbage collection
            context.milliseconds["total"] = round((time.perf_counter() - began) * 1000.0, 1)
            if context.path not in OPEN:
                metrics.count(context.path, outcome, context.type, context.milliseconds)
            _log(context)


def _internal_error() -> Problem:
    logger.exception("no answer to this request", extra={"event": "fault"})
    return Problem("InternalError", "a fault in the service; its log has more under this request's id")


def _log(context: RequestContext) -> None:
    level = logging.DEBUG if context.path in POLLED and context.status == 200 else logging.INFO
    names = ("event", "key", "status", "type", "routed", "bytes", "milliseconds")
    fields = {name: value for name in names if (value := getattr(context, name)) is not None}
    logger.log(level, f"{context.method} {context.path}".strip(), extra=fields)


class RequestPath:
    """The middleware."""

    def __init__(
        self, app: ASGIApp, keys: Keys, admission: Admission, supervisor: Supervisor, metrics: Metrics
    ) -> None:
        self.app = app
        self._keys, self._admission, self._supervisor, self._metrics = keys, admission, supervisor, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        match, path = _route_of(scope)
        given = headers.get("x-request-id", "")
        context = RequestContext(given if REQUEST_ID.fullmatch(given) else uuid4().hex)
        context = scope.setdefault("state", {}).setdefault("context", context)
        context.path = path
        context.method = scope["method"] if scope["method"] in HTTPMethod.__members__ else "other"
        begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun, context.status = True, message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = context.id
            await send(message)

        try:
            with context.held, recorded(context, self._metrics):
                if match is not Match.FULL or path in OPEN:
                    await self.app(scope, receive, send_with_id)
                else:
                    self._accept(context, headers)
                    await _unless_hung_up(self.app, scope, receive, send_with_id)
        except Problem as problem:
            if begun:
                raise
            await problem.response(context.id)(scope, receive, send_with_id)
        except ClientDisconnect:
            pass

    def _accept(self, context: RequestContext, headers: Headers) -> None:
        """Before a byte of the body is read.

        Raises:
            Problem: Unauthorized, NotReady, QueueFull.
        """
        given = headers.getlist("authorization")  # RFC 6750, section 2.1
        scheme, _, key = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        context.key = self._keys.holder(key.strip()) if scheme.lower() == "bearer" else None
        if context.key is None:
            detail = "send one header 'Authorization: Bearer KEY' with a key that is in force"
            raise Problem("Unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})
        if self._admission.closed:
            raise Problem("NotReady", "the gateway is going down", retry_after=RETRY_AFTER)
        if not self._supervisor.ready and context.path not in WITHOUT_MODELS:
            raise Problem("NotReady", "the models are not up yet", retry_after=RETRY_AFTER)
        if context.path not in WITHOUT_FILMS:
            context.held.enter_context(self._admission.admit())


async def _unless_hung_up(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """The app's answer. The app is cancelled as soon as the client hangs up after its body was read.

    Raises:
        ClientDisconnect: the client hung up.
    """
    body_read = asyncio.Event()
    answered = False

    async def receive_body() -> Message:
        message = await receive()
        if not message.get("more_body"):
            body_read.set()
        return message

    async def send_answer(message: Message) -> None:
        nonlocal answered
        answered = message["type"] == "http.response.body" and not message.get("more_body")
        await send(message)

    async def hang_up() -> None:
        await body_read.wait()
        while (await receive())["type"] != "http.disconnect":
            pass

    working, gone = asyncio.ensure_future(app(scope, receive_body, send_answer)), asyncio.create_task(hang_up())
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done() or answered:
            await working
        if not answered:
            raise ClientDisconnect
    finally:
        gone.cancel()
        if working.cancel():
            await asyncio.wait({working})
        del working  # it holds what it raised, which holds this frame: with the film, until a full garbage collection


def _route_of(scope: Scope) -> tuple[Match, str]:
    """How the app's routes take the request, and the path of the one that does; as Starlette's router chooses."""
    found = [(route.matches(scope)[0], getattr(route, "path", NO_ROUTE)) for route in scope["app"].routes]
    match, path = max(found, key=lambda one: one[0].value)
    return match, path if match is not Match.NONE else NO_ROUTE


async def _refuse(_: Request, fault: Exception) -> NoReturn:
    """What the framework itself refuses: no such page, not by this method, or a parameter of the wrong form."""
    if not isinstance(fault, HTTPException):  # its own words quote what the client sent
        raise Problem("MalformedRequest", "a parameter of the request is missing, or not of the form that it must have")
    if fault.status_code >= 500:
        raise Problem("InternalError", "a fault in the service")
    type = {404: "NotFound", 405: "MethodNotAllowed"}.get(fault.status_code, "MalformedRequest")
    raise Problem(type, str(fault.detail), headers=fault.headers)


def add_request_path(app: FastAPI, keys: Keys, admission: Admission, supervisor: Supervisor, metrics: Metrics) -> None:
    """Puts the path round all routes of the app, those too that are added later."""
    app.add_middleware(RequestPath, keys=keys, admission=admission, supervisor=supervisor, metrics=metrics)
    for fault in (HTTPException, RequestValidationError):
        app.add_exception_handler(fault, _refuse)
