"""Clients of the gateway: threads around ``http.client``, which cost little of the cores that the service needs."""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPException
from itertools import count

import numpy as np
import pytest

from handlers.report import Report
from tests.gateway.conftest import Gateway

REQUEST_LIMIT = 120.0
"""Seconds; twice what the gateway's own limits add up to."""
WAIT_LIMIT = 240.0
"""Seconds until a test that waits for answers gives up."""
REST = 0.2
"""Seconds for which a client without a timetable rests after a refusal; Retry-After asks for more."""
TOLERANCE = 1e-4
"""Of a probability: the ViT rounds otherwise in another batch."""


@dataclass(frozen=True)
class Answer:
    """One request.

    Attributes:
        film: the film's place among those that were sent.
        sent: ``time.monotonic`` when it was.
        seconds: until it was answered.
        status: HTTP's; 0 where the connection broke.
    """

    film: int
    sent: float
    seconds: float
    status: int
    headers: Message
    body: bytes

    @property
    def done(self) -> float:
        return self.sent + self.seconds

    @property
    def problem(self) -> str:
        """The type of the problem document; what came instead where it is none."""
        try:
            document = json.loads(self.body)
            assert document["status"] == self.status
            return document["type"].removeprefix("urn:cxr:")
        except (ValueError, KeyError, TypeError, AssertionError):
            return f"no problem document, but HTTP {self.status} {self.body[:100]!r}"


def probabilities(body: bytes) -> list[float]:
    """Of a report: any finding's, then the 14 findings'."""
    report = Report.model_validate_json(body)
    return [report.finding.probability, *(score.probability for score in report.diseases.values())]


def is_report_of(answer: Answer, alone: Sequence[float]) -> bool:
    return answer.status == 200 and probabilities(answer.body) == pytest.approx(alone, abs=TOLERANCE)


def distinct(alone: Mapping[bytes, list[float]], number: int) -> list[bytes]:
    """Films whose reports cannot be taken for one another's, at least ``number``."""
    chosen: list[bytes] = []
    for film in alone:
        if all(np.abs(np.subtract(alone[film], alone[one])).max() > 10 * TOLERANCE for one in chosen):
            chosen.append(film)
    assert len(chosen) >= number, f"only {len(chosen)} films differ"
    return chosen


def read_alone(gateway: Gateway, films: Sequence[bytes]) -> dict[bytes, list[float]]:
    """Each film's probabilities, one film after the other."""
    answers = in_turn(gateway, films, clients=1)
    assert all(answer.status == 200 for answer in answers)
    return {film: probabilities(answer.body) for film, answer in zip(films, answers, strict=True)}


def in_turn(gateway: Gateway, films: Sequence[bytes], clients: int) -> list[Answer]:
    """One answer per film, in order, by so many clients at once."""
    lines = threading.local()

    def send(place: int) -> Answer:
        if not hasattr(lines, "connection"):
            lines.connection = connect(gateway)
        return post(lines.connection, gateway, films[place], place)

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(send, range(len(films))))


def connect(gateway: Gateway) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", gateway.port, timeout=REQUEST_LIMIT)


def post(connection: HTTPConnection, gateway: Gateway, film: bytes, place: int) -> Answer:
    sent = time.monotonic()
    headers = {"Authorization": f"Bearer {gateway.key}", "Content-Type": "application/octet-stream"}
    try:
        connection.request("POST", "/v1/reports", film, headers)
        response = connection.getresponse()
        status, said, body = response.status, response.headers, response.read()
    except (OSError, HTTPException) as fault:
        connection.close()
        status, said, body = 0, Message(), repr(fault).encode()
    return Answer(place, sent, time.monotonic() - sent, status, said, body)


class Load:
    """Clients that send films in turn until the block ends, each its next one when it has its answer.

    Args:
        films: sent round and round.
        clients: how many at once.
        rate: films a second that are due, where the clients keep to a timetable (an open loop).

    Attributes:
        answers: so far, in the order in which they came.
    """

    def __init__(self, gateway: Gateway, films: Sequence[bytes], clients: int, rate: float | None = None) -> None:
        self.answers: list[Answer] = []
        self._gateway, self._films, self._rate = gateway, films, rate
        self._numbers, self._turn, self._over = count(), threading.Lock(), threading.Event()
        self._news = threading.Condition()
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(clients)]

    def __enter__(self) -> "Load":
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No more films; returns when those that were sent are answered."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, seconds: float) -> None:
        """Blocks for so long."""
        self._over.wait(seconds)

    def reports_a_second(self) -> float:
        """Films read a second, from the start to the last answer: the service was busy all the time."""
        return len([one for one in self.answers if one.status == 200]) / (self.answers[-1].done - self._began)

    def wait_for_reports(self, number: int, sent_after: float = 0.0) -> list[Answer]:
        """Blocks until that many films were read that were sent after a time."""

        def reports() -> list[Answer]:
            return [one for one in self.answers if one.status == 200 and one.sent > sent_after]

        with self._news:
            assert self._news.wait_for(lambda: len(reports()) >= number, WAIT_LIMIT), f"{len(reports())} of {number}"
        return reports()

    def _timetable(self) -> Iterator[int]:
        while not self._over.is_set():
            with self._turn:
                number = next(self._numbers)
            due = 0.0 if self._rate is None else self._began + number / self._rate
            if not self._over.wait(max(0.0, due - time.monotonic())):
                yield number % len(self._films)

    def _send(self) -> None:
        connection = connect(self._gateway)
        for film in self._timetable():
            answer = post(connection, self._gateway, self._films[film], film)
            with self._news:
                self.answers.append(answer)
                self._news.notify_all()
            if answer.status != 200 and self._rate is None:
                self._over.wait(REST)
            if self._rate is not None:
                connection.close()  # else the gateway may, which closes those that are idle for seconds
        connection.close()
