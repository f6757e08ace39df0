"""The films that were read, where the operator wants them kept (``CXR_KEEP_FILMS``): each as the picture that the
models got, an 8-bit grey PNG under its report's id. What a DICOM file says beside its pixels is not kept.
"""

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from gateway.render_pool import RenderPool
from handlers.report import Refusal
from workflows.files.atomic import written

PRIVATE = 0o600

logger = logging.getLogger(__name__)


class KeptFilms:
    """A folder of films, bounded in age and bytes; the oldest go first.

    Args:
        folder: is made.
        days: that a film is kept.
        bytes: that all films take at most.
    """

    def __init__(self, folder: Path, days: int, bytes: int) -> None:
        self._folder, self._seconds, self._bytes = folder, days * 86_400, bytes
        self._renderer = RenderPool(1)
        self._thread = ThreadPoolExecutor(1, "films")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._films = deque(self._found())

    async def keep(self, id: str, film: bytes) -> None:
        """Keeps a film under a report's id. A film that cannot be kept is told to the log, and to nobody else."""
        picture = await self._renderer.render(film)
        if isinstance(picture, Refusal):
            logger.warning("a film is not kept: %s", picture.error.type, extra={"event": "film_not_kept"})
            return
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, id, picture)

    async def prune(self) -> None:
        """Removes what is too old, or too much."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._prune, True)

    def _write(self, id: str, picture: bytes) -> None:
        path = self._folder / f"{id}.png"
        try:
            with written(path, len(picture), PRIVATE) as new:
                new.write_bytes(picture)
        except OSError as fault:
            logger.error("a film is not kept: %s", type(fault).__name__, extra={"event": "film_not_kept"})
            return
        self._films.append((time.time(), len(picture), path))
        self._prune(False)

    def _prune(self, anew: bool) -> None:
        if anew:  # another gateway may write here, too
            self._films = deque(self._found())
        held, oldest = sum(size for _, size, _ in self._films), time.time() - self._seconds
        while self._films and (self._films[0][0] < oldest or held > self._bytes):
            _, size, path = self._films.popleft()
            held -= size
            with suppress(OSError):
                path.unlink()

    def _found(self) -> list[tuple[float, int, Path]]:
        """When each was written, its bytes and its path; the oldest first."""
        found = []
        for path in self._folder.glob("*.png"):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return sorted(found)
