"""Starts TorchServe as a child of the gateway, watches that films are read, and starts it again where they are not.

TorchServe starts a dead worker again by itself, after which its films are read as before; a dead or hung JVM it does
not. A film that a client sent and that was answered shows as much as a probe does, so probes are sent only while none
comes, or while some fail: an overloaded server is slow to a probe, and must not be ended for that.

A TorchServe of the same folder that somebody else started, by hand or with another gateway, is used as it is while it
reads films; when it no longer does, this gateway starts its own.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import StrEnum
from typing import Any

from gateway.upstream import NotServed, Unreachable, Upstream
from handlers.report import ModelVersions, Refusal, Report
from workflows import store, torchserve
from workflows.active import Active
from workflows.register import predict, probe_film, register
from workflows.server import Server, ServerError

IDLE = 30.0
"""Seconds without a film after which a probe is sent while ready."""
RETRY = 2.0
"""Seconds between two probes while films fail, at least."""
PROBE_LIMIT = 10.0
"""Seconds that a probe may take."""
LONGEST_PAUSE = 60.0
"""Seconds from a start of TorchServe that failed to the next one, at most; they begin at twice ``RETRY`` and double."""

logger = logging.getLogger(__name__)


class State(StrEnum):
    STARTING = "starting"
    READY = "ready"
    FAILING = "failing"
    RESTARTING = "restarting"


class Supervisor:
    """Whether films are read, and what is done where they are not.

    Args:
        server: the TorchServe that is watched.
        upstream: the way probes go; the same that films go.
        active: the workflow that is served.
        restart_after: seconds without a film read after which TorchServe is started again; one that no longer listens
            is started again at once.

    Attributes:
        models: that read the last film; None before the first.
    """

    def __init__(self, server: Server, upstream: Upstream, active: Active, restart_after: float) -> None:
        self.state = State.STARTING
        self.models: ModelVersions | None = None
        self._server, self._upstream, self._active, self._restart_after = server, upstream, active, restart_after
        self._film = probe_film()
        self._child: torchserve.Child | None = None
        self._watching: asyncio.Task[None] | None = None
        self._served = self._cancelled = False
        self._suspect = asyncio.Event()
        self._began = self._read = time.monotonic()
        self._look_at = 0.0
        self._pause = RETRY

    @property
    def ready(self) -> bool:
        """Whether the last word is that films are read."""
        return self.state is State.READY

    def succeeded(self, answer: Report | Refusal | None = None) -> None:
        """A film was answered: with a report, or with a refusal for what is wrong with it."""
        if isinstance(answer, Report) and answer.models != self.models:
            self.models = answer.models
            said = ", ".join(f"{stage} in {precision}" for stage, precision in self.models.precisions.items())
            fields = {"event": "models", "models": self.models.model_dump(), "precision": self.models.precisions}
            logger.info("the models compute: %s", said, extra=fields)
        self._read = time.monotonic()
        self._served, self._pause = True, RETRY
        self._suspect.clear()
        self._become(State.READY)

    def failed(self) -> None:
        """A film was not served, not in time, or met a fault of a worker; a probe shows whether others would, too."""
        self._suspect.set()

    async def run(self) -> None:
        """Starts TorchServe and watches it until this is cancelled; then what was started is ended."""
        try:
            await self._attempt(self._start)
            while True:
                await self._wait()
                await self._attempt(self._look)
        finally:
            if self._child is not None:
                await asyncio.to_thread(torchserve.stop, self._child)

    async def _attempt(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await step()
        except Exception:  # a full disk, say: whatever it is, it must not end the watch
            logger.exception("TorchServe could not be looked after", extra={"event": "supervisor_failed"})
            self._become(State.FAILING)
        self._look_at = time.monotonic() + self._pause

    async def _look(self) -> None:
        began = time.monotonic()
        if self.ready and not self._suspect.is_set() and began - self._read < IDLE:
            return
        answer = await self._probe()
        if isinstance(answer, Report):
            self.succeeded(answer)
        elif self._read < began:  # else other films were read meanwhile
            self._become(State.FAILING, str(answer))
            if isinstance(answer, Unreachable) or time.monotonic() - max(self._read, self._began) > self._restart_after:
                self._become(State.RESTARTING)
                await self._start()

    async def _probe(self) -> Report | Exception:
        try:
            async with asyncio.timeout(PROBE_LIMIT):
                answer = await self._upstream.read(self._film, "probe", self._active.name(), {})
        except NotServed as fault:
            return fault
        except TimeoutError:
            return TimeoutError(f"no answer to a probe film within {PROBE_LIMIT:g} s")
        if isinstance(answer, Refusal):
            return NotServed(f"a probe film is refused: {answer.error.type}")
        return answer

    async def _wait(self) -> None:
        if self.ready:
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE):
                    await self._suspect.wait()
        await asyncio.sleep(max(0.0, self._look_at - time.monotonic()))

    async def _start(self) -> None:
        """In a thread: it takes a minute. Where this is cancelled meanwhile, what it has started so far is ended."""
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        starting = asyncio.ensure_future(asyncio.to_thread(self._bring_up))
        try:
            report = await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._cancelled = True
            while not starting.done():
                if self._child is not None:
                    self._child.terminate()
                await asyncio.wait({starting}, timeout=0.1)
            starting.exception()
            raise
        except (ServerError, OSError) as fault:
            logger.error("%s", fault, extra={"event": "torchserve_not_started"})
            self._become(State.FAILING, "it could not be started")
        else:
            self.succeeded(report)
            if self._child is not None and (self._watching is None or self._watching.done()):
                self._watching = asyncio.create_task(self._watch(self._child))
        self._began = time.monotonic()

    def _bring_up(self) -> Report:
        """A film's report, when films are read: by the TorchServe that runs in this folder, or by one of our own.

        Raises:
            ServerError, OSError: no TorchServe comes up.
        """
        with torchserve.held(self._server).acquire(cancel_check=lambda: self._cancelled):
            new = not self._served and store.is_staged(self._server)
            if not new and not torchserve.is_left_over(self._server) and (report := self._read_probe()):
                return report
            if self._child is not None:
                torchserve.stop(self._child)
                self._child = None
            if new:
                self._deploy()
            store.check_archives(self._server.store, self._active.name())
            self._child = torchserve.launch(self._server)
            torchserve.wait_until_started(self._server, self._child)
            return register(self._server)

    def _read_probe(self) -> Report | None:
        try:
            answer = predict(self._server, self._film, timeout=PROBE_LIMIT)
        except ServerError:
            return None
        return answer if isinstance(answer, Report) else None

    def _deploy(self) -> None:
        try:
            store.deploy(self._server)
        except (ServerError, OSError) as fault:
            logger.error("not deployed, what was live is served: %s", fault, extra={"event": "not_deployed"})

    async def _watch(self, child: torchserve.Child) -> None:
        """A child that ends is noticed before a film meets its absence."""
        await asyncio.to_thread(child.wait)
        self._suspect.set()

    def _become(self, state: State, why: str = "") -> None:
        if state is not self.state:
            level = logging.INFO if state is State.READY else logging.WARNING
            said = f"TorchServe: {self.state} -> {state}" + (f": {why}" if why else "")
            logger.log(level, said, extra={"event": f"torchserve_{state}"})
            self.state = state
