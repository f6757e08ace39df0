"""From the node's folder to who gets the reports: a thread for each, so that one that is away holds up no other."""

import logging
import threading
from collections.abc import Callable

from pacs.film_files import remove_objects
from pacs.film_queue import LOOK, Film, FilmQueue, State
from pacs.settings import Settings

AT_ONCE = 32
"""Films whose objects go over one association."""

logger = logging.getLogger(__name__)

Concluded = Callable[[Film, str], None]
"""Told of a film that its objects are stored, or why not."""
Store = Callable[[list[Film], Concluded], None]
"""Stores the objects of films at one destination, and says of each what became of it; one whose conclusion comes later
waits for a commitment. Raises Away: then those without a conclusion are delivered again."""


class Away(Exception):
    """Who should get the reports cannot be reached, or takes none now: why, without any value of a film's."""


class Delivery:
    """Threads that deliver what is due, until ``stopped`` is set."""

    def __init__(self, settings: Settings, queue: FilmQueue, stopped: threading.Event) -> None:
        self._queue, self._stopped = queue, stopped
        self._folder, self._longest = settings.folder, settings.longest_pause

    def start(self, name: str, store: Store) -> threading.Thread:
        """Of the films whose destination is ``name``."""
        thread = threading.Thread(target=self._run, args=(name, store), name=f"delivery to {name}", daemon=True)
        thread.start()
        return thread

    def conclude(self, film: Film, failure: str) -> None:
        """A film's objects are stored, where ``failure`` is empty; else they are delivered again, or stuck."""
        if not failure:
            self._queue.was_delivered(film)
            remove_objects(self._folder, film.sop_uid)
        else:
            self._queue.try_again(film, State.READ, failure, self._longest)

    def _run(self, name: str, store: Store) -> None:
        pause = 1.0
        while not self._stopped.is_set():
            films: list[Film] = []
            try:
                for film in self._queue.never_committed(name):
                    self.conclude(film, f"stored, but {name} has not committed itself to it: does it know this node?")
                if films := self._queue.claim_to_deliver(name, AT_ONCE):
                    store(films, self.conclude)
                else:
                    self._queue.wait(LOOK)
                pause = 1.0
            except Exception as fault:
                logger.warning(
                    "%s",
                    fault if isinstance(fault, Away) else "delivery is hindered",
                    exc_info=None if isinstance(fault, Away) else fault,
                    extra={"event": "away" if isinstance(fault, Away) else "delivery_hindered", "ae": name},
                )
                reason = str(fault) if isinstance(fault, Away) else type(fault).__name__
                self._queue.put_back(films, reason, self._stopped)
                self._stopped.wait(pause)
                pause = min(pause * 2, self._longest)
