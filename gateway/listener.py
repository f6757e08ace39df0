"""uvicorn with a clock on its connections, and a drain before it stops."""

import asyncio
import time
from contextlib import suppress
from types import FrameType
from typing import cast
from uuid import uuid4

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.admission import Admission
from gateway.logs import LOGGING
from gateway.problems import Problem
from gateway.request_context import RequestContext
from gateway.request_path import recorded
from gateway.settings import Settings

PAUSE = 10
"""Seconds from a connection's start, or its last answer, to the end of the next request's headers. It bounds idle
connections, headers that trickle in, and the rest of a body that was refused unread, which is thrown away meanwhile so
that the client can read why."""
HEADER_BYTES = 16 * 1024
"""Of a request's line and headers together."""
LINGER = 1.0
"""Seconds that ``/health/ready`` goes on saying 503 after SIGTERM, at least, so that a load balancer sees it."""
LAST_ANSWERS = 5
"""Seconds that clients have to take their answers after the last film is finished."""


class Protocol(H11Protocol):
    """HTTP/1.1 by h11, which bounds a request's headers. Requests that are no HTTP get a problem document, too."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        # uvicorn's stops the clock at the first byte of a request; here its headers stop it (in handle_events).
        self.conn.receive_data(data)
        self.handle_events()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            problem = Problem("MalformedRequest", "this is no HTTP/1.1 request")
            context = RequestContext(uuid4().hex)
            if self.cycle and not self.cycle.response_complete:  # the body is: its request ends as if it had hung up
                context = self.cycle.scope["state"].setdefault("context", context)
                context.type, context.status = problem.type, problem.status
            else:
                with suppress(Problem), recorded(context, cast(FastAPI, self.config.app).state.metrics):
                    raise problem
            answer = problem.response(context.id)
            headers = [*answer.raw_headers, (b"X-Request-ID", context.id.encode()), (b"Connection", b"close")]
            for event in (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class Listener(uvicorn.Server):
    """Drains at SIGTERM or SIGINT: admits no more films, finishes those that it has, which takes the upload, the wait
    and the deadline of the settings at most, and ends with exit code 0. The second signal ends it at once.
    """

    def __init__(self, config: uvicorn.Config, admission: Admission) -> None:
        super().__init__(config)
        self._admission = admission
        self._closed_at = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._admission.closed:
            self.should_exit = self.force_exit = True
        else:
            self._closed_at = time.monotonic()
            self._admission.closed = True

    async def on_tick(self, counter: int) -> bool:
        if self._admission.closed and self._admission.admitted == 0:
            self.should_exit |= time.monotonic() - self._closed_at >= LINGER
        return await super().on_tick(counter)


def listener(app: FastAPI, settings: Settings) -> Listener:
    """The app's server; ``run()`` ends when it is drained."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=LOGGING,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=PAUSE,
        timeout_graceful_shutdown=LAST_ANSWERS,
        h11_max_incomplete_event_size=HEADER_BYTES,
    )
    return Listener(config, app.state.admission)
