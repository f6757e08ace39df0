"""What is kept of films that have ended, and for how long: the disk is bounded by age and by size."""

import logging
import shutil
import time
from pathlib import Path

from pacs.film_files import film_file, objects_folder, owner
from pacs.film_queue import Film, FilmQueue
from pacs.settings import Settings

DAY = 86400.0
REMEMBERED = 365.0
"""Days for which a film whose files have gone is known as one that was here: sent again, it is not read again."""
AT_ONCE = 100

logger = logging.getLogger(__name__)


class Retention:
    """Removes the files of films that were delivered or refused. Those that wait or are stuck stay, however old."""

    def __init__(self, settings: Settings, queue: FilmQueue) -> None:
        self._folder, self._queue, self._keep = settings.folder, queue, settings.keep_days * DAY

    def look(self) -> None:
        """Films over their age go, and what is known of them long after."""
        while films := self._queue.done_before(time.time() - self._keep, AT_ONCE):
            for film in films:
                self._remove(film)
        self._queue.forget_reports_before(time.time() - self._keep)
        self._queue.forget_before(time.time() - max(self._keep, REMEMBERED * DAY))

    def make_room(self, size: float) -> None:
        """Films that have ended go before their age, oldest first, until ``size`` bytes are won or none is left."""
        won = 0
        while won < size and (films := self._queue.done_before(time.time(), AT_ONCE)):
            for film in films:
                if won >= size:
                    break
                won += self._remove(film)

    def clean(self) -> None:
        """At a start: files without a row in the queue, which a killed node had not acknowledged yet."""
        for path in (*self._folder.glob("films/*"), *self._folder.glob("objects/*")):
            if path.name.startswith(".") or self._queue.film(owner(path)) is None:
                _remove_path(path)

    def _remove(self, film: Film) -> int:
        paths = (film_file(self._folder, film.sop_uid), objects_folder(self._folder, film.sop_uid))
        size = sum(_remove_path(path) for path in paths)
        self._queue.has_gone(film)
        return size


def _remove_path(path: Path) -> int:
    """Bytes that it had."""
    if path.is_dir():
        size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        shutil.rmtree(path, ignore_errors=True)
        return size
    size = path.stat().st_size if path.exists() else 0
    path.unlink(missing_ok=True)
    return size
