"""What the gateway notes, in an SQLite file or a PostgreSQL database (``gateway.record_database``): the probabilities
of reports, for as long as a reader may answer them; what readers said; and by day how many films fell into which bin
(``handlers.histograms``). No film, no file's name, nothing of a patient.

A report and its counts are one transaction, which is in the database before the report is answered: a kill loses none
that a client has seen. What a reader says is on the disk, too, before it is answered. It is never changed or removed,
nor are the reports that it is about.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import TypeVar

from prometheus_client import Counter
from sqlalchemy import Select, delete, exists, func, insert, select

from gateway.feedback import Feedback, corrected
from gateway.problems import Problem
from gateway.record_database import FAULTS, Database, RecordsFault, reason
from gateway.record_tables import FEEDBACK, HISTOGRAMS, REPORTS, count_films
from handlers.findings import FINDING
from handlers.histograms import QUANTITIES, bins_of, number_of_bins
from handlers.report import Report

RETRY_AFTER = 30.0
"""Seconds, where nothing can be written."""
PAUSE = 2.0
"""Seconds between two looks whether a database that was away is back."""
DAYS_OF_FILMS = 400
"""That histograms are kept."""
PRUNED_AT_ONCE = 10_000
"""Reports that one transaction removes."""

Value = TypeVar("Value")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """What became of a reader's words: when they were noted, and of which names they differ from the report."""

    given: str
    corrected: list[str]


class Records:
    """The database, written by a thread of its own.

    Where a server is away, or does not answer in time, all that was to be noted meanwhile is not, at once: no film
    waits for it but those that met its absence. It is looked for until it is back.

    Args:
        place: a file, whose folder is made, or PostgreSQL's URL.
        days: for which a report that nobody answers is kept.
        number: of such reports, at most.
        failed: counts what could not be noted or read.

    Attributes:
        written: whether the last thing to be noted was.

    Raises:
        RecordsFault: another program's file is there, or ``place`` is none.
    """

    def __init__(self, place: str, days: int, number: int, failed: Counter) -> None:
        self._database, self._days, self._number = Database(place), days, number
        self._thread = ThreadPoolExecutor(1, "records")
        self._failed = failed
        self._away, self._ended = False, Event()
        self.written = True
        try:
            self._database.look()
        except RecordsFault:
            raise
        except FAULTS as fault:  # a full disk may have room later, and a server may come later
            self._not_written(fault)

    async def note(self, id: str, key: str, pair: str, report: Report, seen_before: bool) -> bool:
        """A report, and its film in today's histograms unless it was ``seen_before``. False where the disk is full, or
        the database cannot be written for another reason, of which the log tells."""
        return await self._run(lambda: self._note(id, key, pair, report, seen_before)) or False

    async def answer(self, id: str, key: str, feedback: Feedback) -> Given:
        """What the holder of ``key`` says of a report.

        Raises:
            Problem: UnknownReport, AnotherKeysReport, FeedbackGiven, NotStored.
        """
        given = await self._run(lambda: self._answer(id, key, feedback))
        if given is None:
            # Where the database went away at the very end, it may have it: a second sending is answered with 409 then.
            detail = "the service could not write it down. Send it again"
            raise Problem("NotStored", detail, retry_after=RETRY_AFTER)
        return given

    async def films(self, pair: str, days: int) -> dict[str, list[int]]:
        """By quantity, the films in each bin that a pair of models read in the last ``days`` days, today (UTC) with
        them; empty where there are none, or they cannot be read."""
        return await self._run(lambda: self._films(pair, days)) or {}

    async def prune(self) -> None:
        """Removes reports that nobody answered in time, and old histograms."""
        await self._run(self._prune)

    async def aclose(self) -> None:
        self._ended.set()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)

    async def _run(self, work: Callable[[], Value]) -> Value | None:
        if self._away:  # the thread may still be at what met its absence
            self._failed.inc()
            return None
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[], Value]) -> Value | None:
        if self._away:
            self._failed.inc()
            return None
        try:
            value = work()
        except FAULTS as fault:
            self._not_written(fault)
            return None
        self.written = True
        return value

    def _not_written(self, fault: BaseException) -> None:
        self._failed.inc()
        self.written = False
        self._database.close()
        logger.error("%s: not written (%s)", self._database.name, reason(fault), extra={"event": "records_failed"})
        if self._database.is_shared:
            self._away = True
            Thread(target=self._wait_until_back, name="records are away", daemon=True).start()

    def _wait_until_back(self) -> None:
        while not self._ended.wait(PAUSE):
            try:
                self._database.look()
            except FAULTS:
                self._database.close()
                continue
            self._away, self.written = False, True
            logger.info("%s: written again", self._database.name, extra={"event": "records_back"})
            return

    def _note(self, id: str, key: str, pair: str, report: Report, seen_before: bool) -> bool:
        scores = {FINDING: report.finding} | report.diseases
        row = {
            "id": id,
            "given": _now(),
            "key": key,
            "pair": pair,
            "models": f"binary={report.models.binary} disease={report.models.disease}",
            "routed": int(report.routed),
            "scores": json.dumps({name: score.probability for name, score in scores.items()}),
            "present": json.dumps([name for name, score in scores.items() if score.present]),
        }
        with self._database.transaction() as rows:
            rows.execute(insert(REPORTS), row)
            if not seen_before:
                count_films(rows, _day(0), pair, bins_of(report))
        return True

    def _answer(self, id: str, key: str, feedback: Feedback) -> Given:
        asked = select(REPORTS.c.key, REPORTS.c.present).where(REPORTS.c.id == id)
        with self._database.transaction(flushed=True) as rows:
            found = rows.execute(asked.with_for_update()).one_or_none()  # of two readers at once one is the first
            if found is None:
                detail = f"no report has this id, or it was given over {self._days} days ago"
                raise Problem("UnknownReport", detail)
            if found.key != key:
                raise Problem("AnotherKeysReport", "the report was given to another key: only its holder may judge it")
            before = rows.scalar(select(FEEDBACK.c.given).where(FEEDBACK.c.report == id))
            if before:
                raise Problem("FeedbackGiven", f"this report was judged at {before}; that stands")
            labels, given = feedback.labels, _now()
            said = {"readable": int(feedback.readable), "labels": json.dumps(labels), "remark": feedback.remark}
            rows.execute(insert(FEEDBACK), {"report": id, "given": given, "key": key, **said})
        present = json.loads(found.present)
        return Given(given, corrected(labels, {name: name in present for name in labels}))

    def _films(self, pair: str, days: int) -> dict[str, list[int]]:
        bins = HISTOGRAMS.c
        asked = select(bins.quantity, bins.bin, func.sum(bins.films)).where(bins.pair == pair, bins.day > _day(-days))
        films: dict[str, list[int]] = {}
        with self._database.transaction() as rows:
            for quantity, bin, number in rows.execute(asked.group_by(bins.quantity, bins.bin)):
                if quantity in QUANTITIES and bin < number_of_bins(quantity):  # another version may have had other bins
                    films.setdefault(quantity, [0] * number_of_bins(quantity))[bin] = number
        return films

    def _prune(self) -> None:
        unanswered = select(REPORTS.c.id).where(~exists().where(FEEDBACK.c.report == REPORTS.c.id))
        self._remove(unanswered.where(REPORTS.c.given < _day(-self._days)).limit(PRUNED_AT_ONCE))
        newest_first = unanswered.order_by(REPORTS.c.given.desc(), REPORTS.c.id)
        self._remove(newest_first.limit(PRUNED_AT_ONCE).offset(self._number))
        with self._database.transaction() as rows:
            rows.execute(delete(HISTOGRAMS).where(HISTOGRAMS.c.day < _day(-DAYS_OF_FILMS)))

    def _remove(self, ids: Select[tuple[str]]) -> None:
        """Until there are none of these reports."""
        removed = PRUNED_AT_ONCE
        while removed == PRUNED_AT_ONCE:
            with self._database.transaction() as rows:
                self._database.take_turns(rows)
                removed = rows.execute(delete(REPORTS).where(REPORTS.c.id.in_(ids))).rowcount


def _day(from_today: int) -> str:
    return (datetime.now(UTC).date() + timedelta(days=from_today)).isoformat()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
