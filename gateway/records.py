"""What the gateway notes, in one SQLite file: the probabilities of reports, for as long as a reader may answer them;
what readers said; and by day how many films fell into which bin (``handlers.histograms``). No film, no file's name,
nothing of a patient.

A report and its counts are one transaction, which is in the file before the report is answered: a kill loses none that
a client has seen. What a reader says is on the disk, too, before it is answered (``synchronous=FULL``). It is never
changed or removed, nor are the reports that it is about.
"""

import asyncio
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from prometheus_client import Counter

from gateway.feedback import Feedback, corrected
from gateway.problems import Problem
from handlers.findings import FINDING
from handlers.histograms import QUANTITIES, bins_of, number_of_bins
from handlers.report import Report
from workflows.command_line import Fault

APPLICATION_ID = 0x43585231
"""By which SQLite knows the file as ours ("CXR1")."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS reports (
    id TEXT PRIMARY KEY, given TEXT NOT NULL, key TEXT NOT NULL, pair TEXT NOT NULL, models TEXT NOT NULL,
    routed INTEGER NOT NULL, scores TEXT NOT NULL, present TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS feedback (
    report TEXT PRIMARY KEY REFERENCES reports (id), given TEXT NOT NULL, key TEXT NOT NULL,
    readable INTEGER NOT NULL, labels TEXT NOT NULL, remark TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS histograms (
    day TEXT, pair TEXT, quantity TEXT, bin INTEGER, films INTEGER NOT NULL,
    PRIMARY KEY (day, pair, quantity, bin)) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS feedback_stays BEFORE DELETE ON feedback
    BEGIN SELECT raise(ABORT, 'feedback is never removed'); END;
CREATE TRIGGER IF NOT EXISTS feedback_is_as_it_was_given BEFORE UPDATE ON feedback
    BEGIN SELECT raise(ABORT, 'feedback is never changed'); END;
CREATE TRIGGER IF NOT EXISTS judged_reports_stay BEFORE DELETE ON reports
    WHEN EXISTS (SELECT 1 FROM feedback WHERE report = OLD.id)
    BEGIN SELECT raise(ABORT, 'a report that a reader has judged is never removed'); END;
"""
WAIT = 5.0
"""Seconds for another gateway on the same file."""
RETRY_AFTER = 30.0
"""Seconds, where the file cannot be written."""
DAYS_OF_FILMS = 400
"""That histograms are kept."""

Value = TypeVar("Value")

logger = logging.getLogger(__name__)


class RecordsFault(Fault):
    """The file is not the gateway's."""


@dataclass(frozen=True)
class Given:
    """What became of a reader's words: when they were noted, and of which names they differ from the report."""

    given: str
    corrected: list[str]


class Records:
    """The file, written by a thread of its own.

    Args:
        path: of the file; its folder is made.
        days: for which a report that nobody answers is kept.
        number: of such reports, at most.
        failed: counts what could not be noted or read.

    Raises:
        RecordsFault: another program's file is there.
    """

    def __init__(self, path: Path, days: int, number: int, failed: Counter) -> None:
        self._path, self._days, self._number = path, days, number
        self._thread = ThreadPoolExecutor(1, "records")
        self._connections: dict[str, sqlite3.Connection] = {}
        self._failed = failed
        with suppress(sqlite3.Error, OSError):  # a full disk may have room later
            self._connected("NORMAL")

    async def note(self, id: str, key: str, pair: str, report: Report, seen_before: bool) -> bool:
        """A report, and its film in today's histograms unless it was ``seen_before``. False where the disk is full, or
        the file cannot be written for another reason, of which the log tells."""
        return await self._run(lambda: self._note(id, key, pair, report, seen_before)) or False

    async def answer(self, id: str, key: str, feedback: Feedback) -> Given:
        """What the holder of ``key`` says of a report.

        Raises:
            Problem: UnknownReport, AnotherKeysReport, FeedbackGiven, NotStored.
        """
        given = await self._run(lambda: self._answer(id, key, feedback))
        if given is None:
            detail = "the service could not write it down; nothing of it is kept. Send it again"
            raise Problem("NotStored", detail, retry_after=RETRY_AFTER)
        return given

    async def films(self, pair: str, days: int) -> dict[str, list[int]]:
        """By quantity, the films in each bin that a pair of models read in the last ``days`` days, today (UTC) with
        them; empty where there are none, or the file cannot be read."""
        return await self._run(lambda: self._films(pair, days)) or {}

    async def prune(self) -> None:
        """Removes reports that nobody answered in time, and old histograms."""
        await self._run(self._prune)

    async def aclose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)

    async def _run(self, work: Callable[[], Value]) -> Value | None:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[], Value]) -> Value | None:
        try:
            return work()
        except (sqlite3.Error, OSError, RecordsFault) as fault:
            self._failed.inc()
            self._close()
            name = getattr(fault, "sqlite_errorname", type(fault).__name__)
            logger.error("%s: not written (%s)", self._path, name, extra={"event": "records_failed"})
            return None

    def _note(self, id: str, key: str, pair: str, report: Report, seen_before: bool) -> bool:
        scores = {FINDING: report.finding} | report.diseases
        models = f"binary={report.models.binary} disease={report.models.disease}"
        probabilities = json.dumps({name: score.probability for name, score in scores.items()})
        present = json.dumps([name for name, score in scores.items() if score.present])
        with self._transaction("NORMAL") as rows:
            rows.execute(
                "INSERT INTO reports VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (id, _now(), key, pair, models, report.routed, probabilities, present),
            )
            if not seen_before:
                today = datetime.now(UTC).date().isoformat()
                rows.executemany(
                    "INSERT INTO histograms VALUES (?, ?, ?, ?, 1) "
                    "ON CONFLICT (day, pair, quantity, bin) DO UPDATE SET films = films + 1",
                    [(today, pair, quantity, bin) for quantity, bin in bins_of(report).items()],
                )
        return True

    def _answer(self, id: str, key: str, feedback: Feedback) -> Given:
        with self._transaction("FULL") as rows:
            found = rows.execute("SELECT key, scores, present FROM reports WHERE id = ?", (id,)).fetchone()
            if found is None:
                detail = f"no report has this id, or it was given over {self._days} days ago"
                raise Problem("UnknownReport", detail)
            if found[0] != key:
                raise Problem("AnotherKeysReport", "the report was given to another key: only its holder may judge it")
            before = rows.execute("SELECT given FROM feedback WHERE report = ?", (id,)).fetchone()
            if before:
                raise Problem("FeedbackGiven", f"this report was judged at {before[0]}; that stands")
            labels, given = feedback.labels, _now()
            rows.execute(
                "INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?)",
                (id, given, key, feedback.readable, json.dumps(labels), feedback.remark),
            )
        present = json.loads(found[2])
        return Given(given, corrected(labels, {name: name in present for name in labels}))

    def _films(self, pair: str, days: int) -> dict[str, list[int]]:
        rows = self._connected("NORMAL").execute(
            "SELECT quantity, bin, sum(films) FROM histograms WHERE pair = ? AND day > ? GROUP BY quantity, bin",
            (pair, _day(-days)),
        )
        films: dict[str, list[int]] = {}
        for quantity, bin, number in rows:
            if quantity in QUANTITIES and bin < number_of_bins(quantity):  # another version may have had other bins
                films.setdefault(quantity, [0] * number_of_bins(quantity))[bin] = number
        return films

    def _prune(self) -> None:
        unanswered = "id NOT IN (SELECT report FROM feedback)"
        with self._transaction("NORMAL") as rows:
            rows.execute(f"DELETE FROM reports WHERE given < ? AND {unanswered}", (_day(-self._days),))
            last = f"SELECT rowid FROM reports WHERE {unanswered} ORDER BY rowid DESC LIMIT 1 OFFSET ?"
            rows.execute(f"DELETE FROM reports WHERE rowid <= ({last}) AND {unanswered}", (self._number,))
            rows.execute("DELETE FROM histograms WHERE day < ?", (_day(-DAYS_OF_FILMS),))

    @contextmanager
    def _transaction(self, synchronous: str) -> Iterator[sqlite3.Connection]:
        rows = self._connected(synchronous)
        rows.execute("BEGIN IMMEDIATE")
        try:
            yield rows
            rows.execute("COMMIT")
        except BaseException:
            if rows.in_transaction:
                rows.execute("ROLLBACK")
            raise

    def _connected(self, synchronous: str) -> sqlite3.Connection:
        if synchronous not in self._connections:
            self._connections[synchronous] = _connect(self._path, synchronous)
        return self._connections[synchronous]

    def _close(self) -> None:
        for one in self._connections.values():
            one.close()
        self._connections.clear()


def open_to_read(path: Path) -> sqlite3.Connection:
    """The file of a gateway, which may be running.

    Raises:
        RecordsFault: it is not there, or not the gateway's.
    """
    if not path.is_file():
        raise RecordsFault(f"{path} is not there: run this in the gateway's folder, or name the file with --records")
    rows = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
    _require_ours(path, rows)
    rows.execute("PRAGMA query_only=ON")
    return rows


def _connect(path: Path, synchronous: str) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A file that is there is not opened: closing it would take this process's locks from connections that are open, and
    # then another program that ends its own deletes the log with what was written (sqlite.org/howtocorrupt, 2.2).
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    rows = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
    try:
        _require_ours(path, rows)
        rows.execute("PRAGMA journal_mode=WAL")
        rows.execute(f"PRAGMA synchronous={synchronous}")
        rows.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id={APPLICATION_ID}; COMMIT;")
    except BaseException:
        rows.close()
        raise
    return rows


def _require_ours(path: Path, rows: sqlite3.Connection) -> None:
    foreign = RecordsFault(f"{path} is no file of the gateway's records: move it away, or name another with --records")
    try:
        ((application,),) = rows.execute("PRAGMA application_id").fetchall()
        ((tables,),) = rows.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except sqlite3.DatabaseError as fault:
        if fault.sqlite_errorname == "SQLITE_NOTADB":
            raise foreign from None
        raise
    if application != APPLICATION_ID and (tables or application):
        raise foreign


def _day(from_today: int) -> str:
    return (datetime.now(UTC).date() + timedelta(days=from_today)).isoformat()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
