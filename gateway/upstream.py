"""Films to TorchServe's workflow and reports back, over one pool of connections on loopback.

What goes out is the film and nothing of its sender's: no header, no file name. A film is sent once, but where
TorchServe has refused the token, and so never took the film, where the connection broke before an answer began, or
where TorchServe has lost the answer, as its own ``DagExecutor`` does now and then: that shows where films sent seconds
after it have theirs. Large films take turns: TorchServe keeps each several times in a small heap.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
from prometheus_client import Counter
from pydantic import ValidationError

from handlers.report import Refusal, Report, parse_answer
from workflows.server import Server, ServerDown, WrongToken
from workflows.token import refused_token

BYTES_AT_ONCE = 128 * 1024 * 1024
"""Of films that are with TorchServe: it keeps each several times, and 64 films of 10 MB end a JVM of 1 GB."""
HEATMAP_BYTES = 12 * 1024 * 1024
"""That an answer with heatmaps may have, counted with its film: 14 maps of 2560 px, in base64."""
PASSED = 10.0
"""Seconds between a film and one that was sent after it and is answered before it, for its answer to count as lost. The
nodes' queues keep their order, but a film with heatmaps may take eight seconds while another worker goes on."""
LOOK = 0.5
"""Seconds between looks at that."""
KEPT = 60.0
"""Seconds that an idle connection is kept: to look who listens at the end of a new one takes some milliseconds."""
CONNECT_LIMIT = 5.0
"""Seconds; on loopback a connection is made at once or not at all."""
BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""A connection that was made and is no more."""

logger = logging.getLogger(__name__)


class NotServed(Exception):
    """TorchServe did not answer with a report or a refusal. Whether it has read the film is not known."""


class Unreachable(NotServed):
    """Nothing listens: TorchServe is not running."""


class Upstream:
    """One TorchServe, as the gateway reads films through it.

    Args:
        server: where it listens, and where its key file lies.
        max_in_flight: films that may be with it at once.
        answers_lost: counts the answers that never came.
    """

    def __init__(self, server: Server, max_in_flight: int, answers_lost: Counter) -> None:
        self._server, self._answers_lost = server, answers_lost
        self._http = httpx.AsyncClient(
            auth=server.auth("inference"),
            transport=_ResendingTransport(max_in_flight + 2),
            timeout=httpx.Timeout(None, connect=CONNECT_LIMIT),
            trust_env=False,  # a proxy named in the environment must not see films
        )
        self._http.headers.clear()
        self._in_flight = _ByteLimit(BYTES_AT_ONCE)
        self._newest_answered = float("-inf")  # when it was sent, on the monotonic clock

    async def read(self, film: bytes, request_id: str, workflow: str, options: dict[str, str]) -> Report | Refusal:
        """One film through ``workflow``. There is no deadline here: the caller sets it.

        Args:
            film: a whole file.
            request_id: of the gateway's own making; it stands in TorchServe's log.
            workflow: a registered workflow's name.
            options: of this film, handed to the first node as form fields beside it.

        Raises:
            NotServed: no connection, a connection that broke, a status other than 200, or a body that is no report.
        """
        kind, body = _form(film, options) if options else ("application/octet-stream", [film])
        headers = {"X-Request-ID": request_id, "Content-Type": kind, "Content-Length": str(sum(map(len, body)))}
        url = f"{self._server.inference}/wfpredict/{workflow}"
        async with self._in_flight.taken(len(film) + (HEATMAP_BYTES if "heatmaps" in options else 0)):
            try:
                return _answer(await self._answered(partial(self._send, url, headers, body)), workflow)
            finally:
                body.clear()  # httpx's response and request refer to each other: the film would wait for the collector

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _answered(self, send: Callable[[], Coroutine[Any, Any, httpx.Response]]) -> httpx.Response:
        """The answer; the film is sent a second time where that of the first is lost."""
        for again in (True, False):
            began = time.monotonic()
            sending = asyncio.create_task(send())
            try:
                while not sending.done() and not (again and self._newest_answered > began + PASSED):
                    await asyncio.wait({sending}, timeout=LOOK)
                if sending.done():
                    response = sending.result()
                    if response.status_code == 200:  # a refused token, or a fault, says nothing of the films before
                        self._newest_answered = max(self._newest_answered, began)
                    return response
            finally:
                sending.cancel()
                del sending  # else what it raised and this frame hold each other, and the film, until a full collection
            self._answers_lost.inc()
            logger.warning("an answer is lost, the film is sent again", extra={"event": "answer_lost"})
        raise AssertionError("the second answer is waited for")

    async def _send(self, url: str, headers: dict[str, str], body: list[bytes]) -> httpx.Response:
        try:
            response = await self._http.post(url, headers=headers, content=_Pieces(body))
        except ServerDown as fault:  # another program listens, or nothing does any more
            raise Unreachable(str(fault)) from fault
        except WrongToken as fault:
            raise NotServed(str(fault)) from fault
        except httpx.ConnectError as fault:
            raise Unreachable(f"nothing listens at {fault.request.url.copy_with(path='/', query=None)}") from fault
        except httpx.TransportError as fault:
            raise NotServed(f"the connection to TorchServe broke ({type(fault).__name__})") from fault
        if refused_token(response):
            raise NotServed(f"TorchServe refuses the inference token in {self._server.folder} and those after it")
        return response


class _ResendingTransport(httpx.AsyncBaseTransport):
    """Kept connections. Where one breaks before an answer begins, the request goes once more, over a new connection: a
    film that was never taken cannot be told from one that was, and to read a film twice changes nothing (RFC 9110,
    9.2.2). A film with which TorchServe ended is not sent to the next one: nothing listens yet."""

    def __init__(self, connections: int) -> None:
        limits = partial(httpx.Limits, max_connections=connections, keepalive_expiry=KEPT)
        self._kept = httpx.AsyncHTTPTransport(limits=limits())
        self._new = httpx.AsyncHTTPTransport(limits=limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._kept.handle_async_request(request)
        except BROKEN as fault:
            said = f"a connection to TorchServe broke ({type(fault).__name__}), the request is sent again"
            logger.warning(said, extra={"event": "connection_broke"})
            return await self._new.handle_async_request(request)

    async def aclose(self) -> None:
        await self._kept.aclose()
        await self._new.aclose()


class _ByteLimit:
    """A number of bytes; films take theirs in the order in which they came, and one that is larger than all goes alone.

    Args:
        size: bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def taken(self, wanted: int) -> AsyncIterator[None]:
        wanted = min(wanted, self._size)
        async with self._turn:
            while self._free < wanted:
                self._freed.clear()
                await self._freed.wait()
            self._free -= wanted
        try:
            yield
        finally:
            self._free += wanted
            self._freed.set()


def _form(film: bytes, options: dict[str, str]) -> tuple[str, list[bytes]]:
    """Content type and body (RFC 7578). TorchServe hands a URL's query to no node, but form fields to the first."""
    boundary = secrets.token_hex(16)  # not in the film, nor in an option
    begin, field = f"--{boundary}\r\n", 'Content-Disposition: form-data; name="%s"'
    fields = "".join(f"{begin}{field % name}\r\n\r\n{value}\r\n" for name, value in options.items())
    head = f'{fields}{begin}{field % "data"}; filename="film"\r\nContent-Type: application/octet-stream\r\n\r\n'
    return f"multipart/form-data; boundary={boundary}", [head.encode(), film, f"\r\n--{boundary}--\r\n".encode()]


class _Pieces:
    """A body that can be sent again."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def _answer(response: httpx.Response, workflow: str) -> Report | Refusal:
    if response.status_code == 404:
        raise NotServed(f"the workflow {workflow} is not registered")
    if response.status_code != 200:
        raise NotServed(f"TorchServe answered HTTP {response.status_code}: {response.text[:200]}")
    try:
        return parse_answer(response.content)
    except ValidationError:
        raise NotServed(f"TorchServe answered 200, but with no report: {response.text[:200]}") from None
