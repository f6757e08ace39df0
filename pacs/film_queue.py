"""The queue of films on its way through the node: an SQLite table that holds no field of a patient's.

received -> reading -> read -> delivering -> delivered; or refused, or stuck, with a reason. A film is its SOP Instance
UID: it is here once, however often it comes. What a killed node was doing with a film is done again at the next start:
its report and its objects have the same UIDs, so that nothing is there twice.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from handlers.report import Report
from handlers.study import Study
from pacs.queue_tables import QueueError, opened

QUEUE_FILE = "queue.db"
LOOK = 1.0
"""Seconds between two looks at the queue while nothing is due."""
FAILURES = 8
"""Of one film in a row, after which it is stuck."""
_FILM = "id, sop_uid, study_uid, source, destination, state, reason, failures, received, digest"

logger = logging.getLogger(__name__)


class State(StrEnum):
    RECEIVED = "received"
    READING = "reading"
    READ = "read"
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    REFUSED = "refused"
    STUCK = "stuck"


IN_HAND = ((State.READING, State.RECEIVED), (State.DELIVERING, State.READ))
"""What a film is while a thread has it, and what it was before."""


@dataclass(frozen=True)
class Film:
    """A row: ``source`` sent it, ``destination`` gets its report; ``failures`` in a row, of the same thing."""

    id: int
    sop_uid: str
    study_uid: str
    source: str
    destination: str
    state: State
    reason: str
    failures: int
    received: float
    digest: str

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Film":
        return cls(**{**dict(zip(cls.__dataclass_fields__, row, strict=True)), "state": State(row[5])})


class FilmQueue:
    """For all threads of one node; ``--status`` and ``--again`` of another process read and write it meanwhile.

    Args:
        folder: of the node; made where it is missing.

    Attributes:
        told: called after each step of a film, with the film as it then is.

    Raises:
        QueueError: the file is no queue of this code's.
        NotWritten: the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / QUEUE_FILE
        self.told: Callable[[Film], None] = lambda _: None
        folder.mkdir(parents=True, exist_ok=True)
        self._lock, self._news = threading.RLock(), threading.Condition()
        self._rows = opened(self.path)

    def close(self) -> None:
        self._rows.close()

    # What waits for news is woken by this process alone; another's changes are seen at the next look.
    def wait(self, seconds: float) -> None:
        with self._news:
            self._news.wait(seconds)

    def wake(self) -> None:
        with self._news:
            self._news.notify_all()

    def recover(self) -> None:
        """At a start: what a killed node had in hand waits again."""
        for doing, before in IN_HAND:
            self._do("UPDATE films SET state=?, due=0 WHERE state=? AND commitment IS NULL", before, doing)

    def add(self, sop_uid: str, study_uid: str, digest: str, source: str, destination: str, size: int) -> Film:
        """A film that is on the disk.

        Raises:
            sqlite3.IntegrityError: it is known.
            sqlite3.OperationalError: the disk is full.
        """
        now = time.time()
        with self._lock:
            self._rows.execute("BEGIN IMMEDIATE")
            try:
                row = self._rows.execute(
                    "INSERT INTO films (sop_uid, study_uid, digest, source, destination, state, received, changed,"
                    f" bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING {_FILM}",
                    (sop_uid, study_uid, digest, source, destination, State.RECEIVED, now, now, size),
                ).fetchone()
                self._rows.execute(
                    "INSERT INTO studies VALUES (?, ?, NULL) ON CONFLICT DO UPDATE SET changed=?, summary=NULL",
                    (study_uid, now, now),
                )
                self._rows.execute("COMMIT")
            except BaseException:
                self._rows.execute("ROLLBACK")
                raise
        return self._tell(row)

    def film(self, sop_uid: str) -> Film | None:
        rows = self._do(f"SELECT {_FILM} FROM films WHERE sop_uid=?", sop_uid)
        return Film.of(rows[0]) if rows else None

    def is_own(self, uid: str) -> bool:
        """Whether it is an object that this node has made."""
        return bool(self._do("SELECT 1 FROM objects WHERE uid=?", uid))

    def claim_to_read(self) -> Film | None:
        """The film that is due longest, now ``reading``."""
        rows = self._do(
            f"UPDATE films SET state=?, changed=? WHERE id=(SELECT id FROM films WHERE state=? AND due<=?"
            f" ORDER BY due, id LIMIT 1) RETURNING {_FILM}",
            *(State.READING, time.time(), State.RECEIVED, time.time()),
        )
        return Film.of(rows[0]) if rows else None

    def claim_to_deliver(self, destination: str, at_most: int) -> list[Film]:
        """Films of a destination that are due, now ``delivering``."""
        rows = self._do(
            f"UPDATE films SET state=?, changed=? WHERE id IN (SELECT id FROM films WHERE state=? AND destination=?"
            f" AND due<=? ORDER BY due, id LIMIT ?) RETURNING {_FILM}",
            *(State.DELIVERING, time.time(), State.READ, destination, time.time(), at_most),
        )
        return sorted((Film.of(row) for row in rows), key=lambda film: film.id)

    def was_read(self, film: Film, report: Report, objects: Iterable[tuple[str, str]], size: int) -> None:
        """Its objects are on the disk: (SOP Instance UID, SOP Class UID) of each; ``size`` bytes together."""
        text = report.model_dump_json(exclude={"heatmaps"})
        with self._lock:
            self._rows.execute("BEGIN IMMEDIATE")
            try:
                self._rows.execute("DELETE FROM objects WHERE film=?", (film.id,))
                self._rows.executemany(
                    "INSERT OR REPLACE INTO objects VALUES (?, ?, ?)", [(*one, film.id) for one in objects]
                )
                row = self._rows.execute(
                    f"UPDATE films SET state=?, changed=?, report=?, object_bytes=?, reason='', failures=0, due=0"
                    f" WHERE id=? RETURNING {_FILM}",
                    (State.READ, time.time(), text, size, film.id),
                ).fetchone()
                self._rows.execute("COMMIT")
            except BaseException:
                self._rows.execute("ROLLBACK")
                raise
        self._tell(row)

    def objects_of(self, films: Iterable[Film]) -> dict[str, tuple[str, int]]:
        """By SOP Instance UID: the SOP Class UID, and the film's id."""
        found: dict[str, tuple[str, int]] = {}
        for film in films:
            for uid, kind in self._do("SELECT uid, class_uid FROM objects WHERE film=?", film.id):
                found[uid] = (kind, film.id)
        return found

    def become(self, film: Film, state: State, reason: str = "", pause: float = 0.0) -> None:
        """A step; with ``pause`` seconds until the film is due. Into ``received`` or ``read`` it is a failure more."""
        failed = state in (State.RECEIVED, State.READ)
        rows = self._do(
            f"UPDATE films SET state=?, reason=?, changed=?, due=?, commitment=NULL,"
            f" failures=CASE WHEN ? THEN failures+1 ELSE failures END WHERE id=? RETURNING {_FILM}",
            *(state, reason, time.time(), time.time() + pause, failed, film.id),
        )
        for row in rows:
            self._tell(row)

    def try_again(self, film: Film, state: State, reason: str, longest: float) -> None:
        """A failure more: due again after a pause of twice the last one, ``longest`` seconds at most; or stuck."""
        if film.failures + 1 < FAILURES:
            self.become(film, state, reason, min(2.0**film.failures, longest))
        else:
            self.become(film, State.STUCK, reason)

    def was_delivered(self, film: Film) -> None:
        """Its objects may go."""
        self.become(film, State.DELIVERED)
        self._do("UPDATE films SET object_bytes=0 WHERE id=?", film.id)

    def put_back(self, films: Sequence[Film], reason: str, stopped: threading.Event) -> None:
        """Those that are still in hand, through no fault of theirs; who claims them waits before it claims others.

        Tried until it is done, whatever hinders it: a film that stayed in hand would wait for the next start.
        """
        while films and not stopped.is_set():
            try:
                return self._put_back(films, reason)
            except Exception as fault:
                logger.warning("the queue is hindered", exc_info=fault, extra={"event": "queue_hindered"})
                stopped.wait(LOOK)
        return None

    def _put_back(self, films: Sequence[Film], reason: str) -> None:
        for film in films:
            for doing, before in IN_HAND:
                self._do(
                    "UPDATE films SET state=?, reason=? WHERE id=? AND state=? AND commitment IS NULL",
                    *(before, reason, film.id, doing),
                )

    def await_commitment(self, films: Iterable[Film], transaction: str | None, within: float) -> None:
        """What was stored waits for the word of who has it, for so many seconds; without a transaction no longer."""
        for film in films:
            self._do("UPDATE films SET commitment=?, due=? WHERE id=?", transaction, time.time() + within, film.id)

    def committing(self, transaction: str) -> list[Film]:
        return [Film.of(row) for row in self._do(f"SELECT {_FILM} FROM films WHERE commitment=?", transaction)]

    def never_committed(self, destination: str) -> list[Film]:
        """Those whose time for it is over."""
        rows = self._do(
            f"SELECT {_FILM} FROM films WHERE state=? AND destination=? AND commitment IS NOT NULL AND due<=?",
            *(State.DELIVERING, destination, time.time()),
        )
        return [Film.of(row) for row in rows]

    def again(self, sop_uids: Sequence[str]) -> list[str]:
        """Reads and delivers films again that have ended; without any named, all that are stuck or refused.

        Returns:
            The UIDs of those that are on their way.
        """
        ended = f"state IN ('{State.STUCK}', '{State.REFUSED}')"
        if sop_uids:
            named = ", ".join("?" * len(sop_uids))
            ended = f"state IN ('{State.STUCK}', '{State.REFUSED}', '{State.DELIVERED}') AND sop_uid IN ({named})"
        rows = self._do(
            f"UPDATE films SET state=?, reason='', failures=0, due=0, changed=? WHERE bytes>0 AND {ended}"
            " RETURNING sop_uid",
            *(State.RECEIVED, time.time(), *sop_uids),
        )
        return [uid for (uid,) in rows]

    def counts(self) -> dict[tuple[str, State], int]:
        """Films by who sent them and their state."""
        rows = self._do("SELECT source, state, COUNT(*) FROM films GROUP BY source, state")
        return {(source, State(state)): number for source, state, number in rows}

    def in_state(self, states: Sequence[State], at_most: int) -> list[Film]:
        """Oldest first."""
        marks = ", ".join("?" * len(states))
        rows = self._do(f"SELECT {_FILM} FROM films WHERE state IN ({marks}) ORDER BY id LIMIT ?", *states, at_most)
        return [Film.of(row) for row in rows]

    def stable_studies(self, stable_after: float) -> list[str]:
        """Studies without a summary that got no film for so many seconds, and of which none waits to be read."""
        rows = self._do(
            "SELECT study_uid FROM studies WHERE summary IS NULL AND changed<=? AND NOT EXISTS (SELECT 1 FROM films"
            " WHERE films.study_uid=studies.study_uid AND state IN (?, ?))",
            *(time.time() - stable_after, State.RECEIVED, State.READING),
        )
        return [uid for (uid,) in rows]

    def reports_of(self, study_uid: str) -> list[Report | None]:
        """Of its films, in the order in which they came; None for one that has none."""
        rows = self._do("SELECT report FROM films WHERE study_uid=? ORDER BY id", study_uid)
        return [Report.model_validate_json(text) if text else None for (text,) in rows]

    def sum_up(self, study_uid: str, study: Study) -> None:
        self._do("UPDATE studies SET summary=? WHERE study_uid=?", study.model_dump_json(), study_uid)

    def summaries(self, at_most: int) -> dict[str, Study]:
        """The latest."""
        rows = self._do(
            "SELECT study_uid, summary FROM studies WHERE summary IS NOT NULL ORDER BY changed DESC LIMIT ?", at_most
        )
        return {uid: Study.model_validate_json(text) for uid, text in rows}

    def mark(self, server: str) -> str | None:
        rows = self._do("SELECT mark FROM marks WHERE server=?", server)
        return rows[0][0] if rows else None

    def set_mark(self, server: str, mark: str) -> None:
        self._do("INSERT INTO marks VALUES (?, ?) ON CONFLICT DO UPDATE SET mark=?", server, mark, mark)

    def bytes_kept(self) -> int:
        ((total,),) = self._do("SELECT COALESCE(SUM(bytes + object_bytes), 0) FROM films")
        return int(total)

    def done_before(self, moment: float, at_most: int) -> list[Film]:
        """Delivered or refused by then, and still on the disk; those first that were so longest."""
        rows = self._do(
            f"SELECT {_FILM} FROM films WHERE state IN (?, ?) AND bytes>0 AND changed<=? ORDER BY changed LIMIT ?",
            *(State.DELIVERED, State.REFUSED, moment, at_most),
        )
        return [Film.of(row) for row in rows]

    def has_gone(self, film: Film) -> None:
        """Its files are removed; that it was here, and its report for its study's summary, is remembered."""
        self._do("UPDATE films SET bytes=0, object_bytes=0 WHERE id=?", film.id)

    def forget_reports_before(self, moment: float) -> None:
        """Of films whose files have gone."""
        self._do("UPDATE films SET report=NULL WHERE bytes=0 AND changed<=? AND report IS NOT NULL", moment)

    def forget_before(self, moment: float) -> None:
        """Films whose files have gone and that ended before, with their objects, and studies without any film."""
        old = f"bytes=0 AND changed<=? AND state IN ('{State.DELIVERED}', '{State.REFUSED}')"
        self._do(f"DELETE FROM objects WHERE film IN (SELECT id FROM films WHERE {old})", moment)
        self._do(f"DELETE FROM films WHERE {old}", moment)
        self._do("DELETE FROM studies WHERE changed<=? AND study_uid NOT IN (SELECT study_uid FROM films)", moment)

    def _do(self, statement: str, *values: object) -> list[Any]:
        with self._lock:
            return self._rows.execute(statement, values).fetchall()

    def _tell(self, row: Sequence[Any]) -> Film:
        film = Film.of(row)
        self.told(film)
        self.wake()
        return film


def existing(folder: Path) -> FilmQueue:
    """The queue of a node that runs or has run.

    Raises:
        QueueError: there is none in the folder.
    """
    if not (folder / QUEUE_FILE).is_file():
        raise QueueError(f"{folder / QUEUE_FILE} is not there: name the node's folder with --folder, or its --config")
    return FilmQueue(folder)
