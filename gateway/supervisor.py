"""Keeps TorchServe up: watches that films are read, and starts it again where they are not.

TorchServe starts a dead worker again by itself, after which its films are read as before; a dead or hung JVM it does
not. A film that a client sent and that was answered shows as much as a probe does, so probes are sent only while none
comes, or while some fail: an overloaded server is slow to a probe, and must not be ended for that.
"""

import asyncio
import logging
import sys
import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import workflows
from gateway.upstream import NotServed, Unreachable, Upstream
from handlers.report import Refusal
from workflows.active import Active
from workflows.register import probe_film
from workflows.server import Server

IDLE = 30.0
"""Seconds without a film after which a probe is sent while ready."""
RETRY = 2.0
"""Seconds between two probes while films fail, at least."""
PROBE_LIMIT = 10.0
"""Seconds that a probe may take."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts to start TorchServe that failed, at most; they begin at ``RETRY`` and double."""

logger = logging.getLogger(__name__)


class State(StrEnum):
    STARTING = "starting"
    READY = "ready"
    FAILING = "failing"
    RESTARTING = "restarting"


class Supervisor:
    """Whether films are read, and what is done where they are not.

    Args:
        server: the TorchServe that is kept.
        upstream: the way probes go; the same that films go.
        active: the workflow that is served.
        patience: seconds without a film read after which TorchServe is started again; one that no longer listens is
            started again at once.
    """

    def __init__(self, server: Server, upstream: Upstream, active: Active, patience: float) -> None:
        self.state = State.STARTING
        self._server, self._upstream, self._active, self._patience = server, upstream, active, patience
        self._film = probe_film()
        self._doubt = asyncio.Event()
        self._began = self._read = self._probed = time.monotonic()
        self._pause = RETRY

    @property
    def ready(self) -> bool:
        """Whether the last word is that films are read."""
        return self.state is State.READY

    def saw(self) -> None:
        """A film was answered: with a report, or with a refusal for what is wrong with it."""
        self._read = time.monotonic()
        self._doubt.clear()
        self._become(State.READY)

    def failed(self) -> None:
        """A film was not served, not in time, or met a fault of a worker; a probe shows whether others would, too."""
        self._doubt.set()

    async def run(self) -> None:
        """Watches until it is cancelled."""
        while True:
            try:
                await self._look()
            except Exception:  # a full disk, say: whatever it is, it must not end the watch
                logger.exception("TorchServe could not be looked after", extra={"event": "supervisor_failed"})
                self._become(State.FAILING)
                self._probed = time.monotonic()
            await self._wait()

    async def _look(self) -> None:
        began = time.monotonic()
        if self.ready and not self._doubt.is_set() and began - self._read < IDLE:
            return
        fault = await self._probe()
        self._probed = time.monotonic()
        if fault is None:
            self.saw()
        elif self._read < began:  # else other films were read meanwhile
            self._become(State.FAILING, str(fault))
            if isinstance(fault, Unreachable) or time.monotonic() - max(self._read, self._began) > self._patience:
                await self._restart()

    async def _probe(self) -> Exception | None:
        try:
            async with asyncio.timeout(PROBE_LIMIT):
                answer = await self._upstream.read(self._film, "probe", self._active.name(), {})
        except NotServed as fault:
            return fault
        except TimeoutError:
            return TimeoutError(f"no answer to a probe film within {PROBE_LIMIT:g} s")
        if isinstance(answer, Refusal):
            return NotServed(f"a probe film is refused: {answer.error.type}")
        return None

    async def _wait(self) -> None:
        if self.ready:
            with suppress(TimeoutError):
                async with asyncio.timeout(IDLE):
                    await self._doubt.wait()
        await asyncio.sleep(max(0.0, self._probed + self._pause - time.monotonic()))

    async def _restart(self) -> None:
        """In a process of its own: it takes a minute, and must end with the gateway where that is stopped meanwhile."""
        self._become(State.RESTARTING)
        log = self._server.folder / "logs" / "restart.log"
        log.parent.mkdir(exist_ok=True)
        command = (sys.executable, "-m", "workflows.serve", "restart", "--server", self._server.folder.resolve())
        with log.open("w") as output:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, cwd=_root()
            )
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
        self._began = time.monotonic()
        if code == 0:
            self._pause = RETRY
            self.saw()
        else:
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._become(State.FAILING, log.read_text().strip().rpartition("\n")[2])

    def _become(self, state: State, why: str = "") -> None:
        if state is not self.state:
            level = logging.INFO if state is State.READY else logging.WARNING
            said = f"TorchServe: {self.state} -> {state}" + (f": {why}" if why else "")
            logger.log(level, said, extra={"event": f"torchserve_{state}"})
            self.state = state


def _root() -> Path:
    return Path(workflows.__path__[0]).parent
