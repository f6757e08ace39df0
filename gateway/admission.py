"""How many films are let in: seats for all that are in the house, places for those that TorchServe has."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from gateway.problems import Problem


class Full(Problem):
    """No seat (QueueFull, 429), or no place in time (Busy, 503); ``retry_after`` in seconds."""


class Admission:
    """Bounds the films in the house.

    A film takes a seat before a byte of its body is read, and keeps it until TorchServe has answered or the deadline
    has passed. So the bodies in memory are at most ``(places + waiting) * max_bytes``: 96 films of 64 MiB, 6 GiB, with
    the settings as they are; a radiograph is seldom over 20 MB. One that still arrives holds a seat, never a place.

    Args:
        places: films that TorchServe may have at once.
        waiting: films that may arrive or wait beside them.
        patience: seconds that a film waits for a place.

    Attributes:
        seated: films in the house.
        in_flight: films that hold a place.
        waiting: films in line for a place.
        closed: whether the house takes no more films; set once, when it drains.
    """

    def __init__(self, places: int, waiting: int, patience: float) -> None:
        self.patience = patience
        self.seats = places + waiting
        self.seated = 0
        self.in_flight = 0
        self.waiting = 0
        self.closed = False
        self._free = asyncio.Semaphore(places)

    @contextmanager
    def seat(self) -> Iterator[None]:
        """A seat, at once.

        Raises:
            Full: every seat is taken. By ``patience`` seconds later all who wait now were served or refused.
        """
        if self.seated >= self.seats:
            raise Full("QueueFull", f"{self.seats} films are in the house, and no more are let in", None, self.patience)
        self.seated += 1
        try:
            yield
        finally:
            self.seated -= 1

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place with TorchServe, first come, first served. A task that is cancelled while it waits leaves the line.

        Raises:
            Full: none was free within ``patience`` seconds.
        """
        self.waiting += 1
        try:
            async with asyncio.timeout(self.patience):
                await self._free.acquire()
        except TimeoutError:
            raise Full("Busy", f"no place was free within {self.patience:g} s", None, self.patience) from None
        finally:
            self.waiting -= 1
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._free.release()
