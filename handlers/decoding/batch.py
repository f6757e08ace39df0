"""The first step of a reading: a batch's files to what the models get, or why not. No network library is needed."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from handlers.decoding.containers import is_dicom
from handlers.decoding.dicom import modality_of
from handlers.decoding.image import read_film, to_pixels
from handlers.processors import give_way, processors
from handlers.refusals import CODES, RefusedFilm
from handlers.report import FilmFacts, Refusal

DECODE_SECONDS = 4.5
"""Of a processor: a film that takes more is refused. A decoder in a process of its own has its limit there."""
BUSY = 3
"""Times as many by the clock: a machine that has other work to do gives a film its processor time late."""
AGAIN = 0.02
"""Seconds, at least, until a film's processor time is looked at again."""
STUCK = 4
"""Threads to spare for films that are past their time. A decoder cannot be interrupted, but the limits of
``handlers.refusals`` bound what each one has to do, so a thread comes back; should all be busy with such films, the
next ones are refused in their time, too."""

logger = logging.getLogger(__name__)

LATE = Refusal.because(
    CODES["DecodeTimeout"],
    "DecodeTimeout",
    f"decoding takes over {DECODE_SECONDS:g} s of processor time, or {BUSY * DECODE_SECONDS:g} s in all",
)
INTERNAL = Refusal.because(500, "InternalError", "the film could not be read because of a fault in the service")

Picture = TypeVar("Picture")


class Decoded(NamedTuple):
    """A film as the models get it, [S, S] uint8, its own rows and columns, and what it is."""

    pixels: NDArray[np.uint8]
    shape: tuple[int, int]
    facts: FilmFacts


class FilmClock:
    """What a film has taken so far of its time."""

    def __init__(self) -> None:
        self._came, self._used_before = time.monotonic(), 0.0
        self._thread: int | None = None

    def begin(self) -> None:
        """Called by the thread that decodes the film. Where threads have no clock (macOS), the wall's counts alone."""
        if hasattr(time, "pthread_getcpuclockid"):
            self._used_before = time.thread_time()
            self._thread = time.pthread_getcpuclockid(threading.get_ident())

    def left(self) -> float:
        """Seconds, at least, until the film's time is over."""
        used = 0.0 if self._thread is None else time.clock_gettime(self._thread) - self._used_before
        return min(DECODE_SECONDS - used, BUSY * DECODE_SECONDS - (time.monotonic() - self._came))


class Decoding(Generic[Picture]):
    """A batch's films decoded side by side, as many as there are processors, each against a clock of its own.

    Args:
        decode: one film's bytes to its picture; it does not raise.
    """

    def __init__(self, decode: Callable[[bytes], Picture | Refusal]) -> None:
        self._decode = decode
        self._at_once = processors()
        self._pool = ThreadPoolExecutor(self._at_once + STUCK, "decode", give_way)

    def decode(self, films: Sequence[bytes]) -> list[Picture | Refusal]:
        """Picture or refusal per film, in order. A film that takes over ``DECODE_SECONDS`` holds up no other."""
        waiting, answers = deque(enumerate(films)), dict[int, Picture | Refusal]()
        running: dict[Future[Picture | Refusal], tuple[int, FilmClock]] = {}  # with the film's place
        while waiting or running:
            while waiting and len(running) < self._at_once:
                place, film = waiting.popleft()
                clock = FilmClock()
                running[self._pool.submit(self._timed, film, clock)] = place, clock
            soonest = min(clock.left() for _, clock in running.values())
            done, _ = wait(running, max(AGAIN, soonest), FIRST_COMPLETED)
            for future in done:
                answers[running.pop(future)[0]] = future.result()
            for future, (place, clock) in list(running.items()):
                if clock.left() <= 0.0:
                    future.cancel()
                    del running[future]
                    answers[place] = LATE
        return [answers[place] for place in range(len(films))]

    def _timed(self, film: bytes, clock: FilmClock) -> Picture | Refusal:
        clock.begin()
        return self._decode(film)


def decode(film: bytes, side: int) -> Decoded | Refusal:
    """A file's pixels as models of ``side`` px get them; it does not raise."""
    try:
        grey = read_film(film)
        pixels, (rows, columns) = to_pixels(grey, side), grey.shape
        facts = FilmFacts(
            width=columns,
            height=rows,
            brightness=float(pixels.mean()) / 255.0,
            modality=modality_of(film) if is_dicom(film) else None,
        )
        return Decoded(pixels, (rows, columns), facts)
    except RefusedFilm as refused:
        return Refusal.because(refused.code, refused.type, refused.message)
    except Exception as fault:
        logger.error("a film could not be brought to %d px: %s", side, type(fault).__name__)
        return INTERNAL
