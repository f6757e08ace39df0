"""How many films the gateway holds, and how many of them are read at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, TypeVar

from gateway.problems import Problem
from gateway.request_context import RequestContext
from handlers.report import Refusal

Answer = TypeVar("Answer")


class Slots:
    """How many films may be read at once, by TorchServe or by the processes that render; others wait.

    Args:
        number: films that are read at once.
        max_wait: seconds that a film waits for a slot.

    Attributes:
        number: films that may have a slot.
        in_flight: films that have a slot.
        waiting: films that wait for one.
    """

    def __init__(self, number: int, max_wait: float) -> None:
        self.number, self.max_wait = number, max_wait
        self.in_flight = 0
        self.waiting = 0
        self._reading: set[asyncio.Task[Any]] = set()  # asyncio itself keeps no task alive
        self._free = asyncio.Semaphore(number)

    async def read(self, context: RequestContext, work: Callable[[], Awaitable[Answer | Refusal]]) -> Answer:
        """What ``work`` makes of a film that has arrived, once it has a slot.

        A film that is being read cannot be recalled: it keeps its slot, and stays admitted, until ``work`` has ended,
        though its client may have hung up. One whose client hangs up while it waits gives up its turn at once.

        Raises:
            Problem: Busy; the film is refused; what ``work`` raises.
        """
        async with AsyncExitStack() as held:
            held.enter_context(context.held.pop_all())
            with context.timed("wait"):
                await held.enter_async_context(self.slot())
            reading = asyncio.create_task(_work(context, work, held.pop_all()))
            self._reading.add(reading)
            reading.add_done_callback(self._reading.discard)
        try:
            answer = await asyncio.shield(reading)
        finally:
            del reading  # else what it raised and this frame hold each other, and the film, until a full collection
        if isinstance(answer, Refusal):
            raise Problem.of_refusal(answer)
        return answer

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """A slot, first come, first served. A task that is cancelled while it waits gives up its turn.

        Raises:
            Problem: Busy, none was free within ``max_wait`` seconds.
        """
        self.waiting += 1
        try:
            async with asyncio.timeout(self.max_wait):
                await self._free.acquire()
        except TimeoutError:
            said = f"the film waited {self.max_wait:g} s, and as many as may be read at once still were"
            raise Problem("Busy", said, retry_after=self.max_wait) from None
        finally:
            self.waiting -= 1
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._free.release()


async def _work(context: RequestContext, work: Callable[[], Awaitable[Answer]], held: AsyncExitStack) -> Answer:
    async with held:
        with context.timed("read"):
            return await work()


class Admission(Slots):
    """Bounds the films that the gateway holds; its slots are TorchServe's.

    A film is admitted before a byte of its body is read, and stays so until it is answered or the deadline has passed.
    So the bodies in memory are at most ``(max_in_flight + max_waiting) * max_bytes``: 96 films of 64 MiB, 6 GiB, with
    the settings as they are; a radiograph is seldom over 20 MB. One that still arrives is admitted, but has no slot.

    Args:
        max_in_flight: films that TorchServe may have at once.
        max_waiting: films that may arrive or wait beside them.
        max_wait: seconds that a film waits for a slot.

    Attributes:
        admitted: films that the gateway holds.
        closed: whether no more are admitted; set once, when the gateway drains.
    """

    def __init__(self, max_in_flight: int, max_waiting: int, max_wait: float) -> None:
        super().__init__(max_in_flight, max_wait)
        self.limit = max_in_flight + max_waiting
        self.admitted = 0
        self.closed = False

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Counts a film as admitted, at once, until the block ends.

        Raises:
            Problem: QueueFull. By ``max_wait`` seconds later all who wait now were served or refused.
        """
        if self.admitted >= self.limit:
            said = f"{self.limit} films are being read or wait, as many as the server may hold"
            raise Problem("QueueFull", said, retry_after=self.max_wait)
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1
