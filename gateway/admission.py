"""How many films are admitted: a limit on all that the gateway holds, and places for those that TorchServe has."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from gateway.problems import Problem


class Full(Problem):
    """Over the limit (QueueFull, 429), or no place in time (Busy, 503); ``retry_after`` in seconds."""


class Admission:
    """Bounds the films that the gateway holds.

    A film is admitted before a byte of its body is read, and stays so until TorchServe has answered or the deadline
    has passed. So the bodies in memory are at most ``(places + waiting) * max_bytes``: 96 films of 64 MiB, 6 GiB, with
    the settings as they are; a radiograph is seldom over 20 MB. One that still arrives is admitted, but has no place.

    Args:
        places: films that TorchServe may have at once.
        waiting: films that may arrive or wait beside them.
        wait: seconds that a film waits for a place.

    Attributes:
        admitted: films that the gateway holds.
        in_flight: films that hold a place.
        waiting: films in line for a place.
        closed: whether no more films are admitted; set once, when the gateway drains.
    """

    def __init__(self, places: int, waiting: int, wait: float) -> None:
        self.wait = wait
        self.limit = places + waiting
        self.admitted = 0
        self.in_flight = 0
        self.waiting = 0
        self.closed = False
        self._free = asyncio.Semaphore(places)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Counts a film as admitted, at once, until the block ends.

        Raises:
            Full: as many are admitted as may be. By ``wait`` seconds later all who wait now were served or refused.
        """
        if self.admitted >= self.limit:
            said = f"{self.limit} films are being read or wait, and no more are admitted"
            raise Full("QueueFull", said, None, self.wait)
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place with TorchServe, first come, first served. A task that is cancelled while it waits leaves the line.

        Raises:
            Full: none was free within ``wait`` seconds.
        """
        self.waiting += 1
        try:
            async with asyncio.timeout(self.wait):
                await self._free.acquire()
        except TimeoutError:
            raise Full("Busy", f"no place was free within {self.wait:g} s", None, self.wait) from None
        finally:
            self.waiting -= 1
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._free.release()
