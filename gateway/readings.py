"""One film's way from a place with TorchServe to its answer."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from gateway.admission import Admission
from gateway.logs import Record
from gateway.metrics import Metrics
from gateway.problems import Problem
from gateway.supervisor import Supervisor
from gateway.upstream import NotServed, Upstream
from handlers.report import Refusal, Report
from workflows.active import Active

RETRY_AFTER = 5.0
"""Seconds; TorchServe is being started again, or another gateway takes over."""

logger = logging.getLogger(__name__)


class Readings:
    """The films that TorchServe has.

    One cannot be recalled: it stays admitted, in its place, until TorchServe has answered or the deadline has passed,
    whoever still listens.
    """

    def __init__(
        self,
        deadline: float,
        active: Active,
        admission: Admission,
        upstream: Upstream,
        supervisor: Supervisor,
        metrics: Metrics,
    ) -> None:
        self._deadline, self._active, self._admission = deadline, active, admission
        self._upstream, self._keeper, self._metrics = upstream, supervisor, metrics
        self._tasks: set[asyncio.Task[Report | Refusal]] = set()

    def check_open(self) -> None:
        """Raises Problem (NotReady) where no film is taken."""
        if self._admission.closed or not self._keeper.ready:
            why = "the gateway is going down" if self._admission.closed else "the models are not up yet"
            raise Problem("NotReady", why, retry_after=RETRY_AFTER)

    def start(
        self, film: bytes, record: Record, options: dict[str, str], held: AsyncExitStack
    ) -> "asyncio.Task[Report | Refusal]":
        """The film on its way, in a task that outlives a client who hangs up; ``held`` is given back at its end.

        The task raises Problem: DeadlinePassed, NotServed.
        """
        reading = asyncio.create_task(self._read(film, record, options, held))
        self._tasks.add(reading)
        reading.add_done_callback(self._finish)
        return reading

    @contextmanager
    def timed(self, stage: str, record: Record) -> Iterator[None]:
        """Counts the seconds of a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self._metrics.seconds.labels(stage).observe(seconds)
            record.milliseconds[stage] = round(seconds * 1000.0, 1)

    async def _read(
        self, film: bytes, record: Record, options: dict[str, str], held: AsyncExitStack
    ) -> Report | Refusal:
        async with held:
            try:
                with self.timed("read", record):
                    async with asyncio.timeout(self._deadline):
                        answer = await self._upstream.read(film, record.id, self._active.name(), options)
                if isinstance(answer, Refusal) and answer.fault:
                    self._keeper.failed()
                else:
                    self._keeper.saw()
                return answer
            except TimeoutError:
                self._keeper.failed()
                raise Problem("DeadlinePassed", f"no report within {self._deadline:g} s") from None
            except NotServed as fault:
                self._keeper.failed()
                # What follows the colon is TorchServe's own text, which might hold anything.
                event = {"event": "not_served", "request_id": record.id}
                logger.warning("not served: %s", str(fault).partition(": ")[0], extra=event)
                detail = "the models gave no answer; they are started again if they stay silent"
                raise Problem("NotServed", detail, retry_after=RETRY_AFTER) from None

    def _finish(self, reading: "asyncio.Task[Report | Refusal]") -> None:
        self._tasks.discard(reading)
        if not reading.cancelled():
            reading.exception()  # of a film whose client hung up: nobody else asks for it
