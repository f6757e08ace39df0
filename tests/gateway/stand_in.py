"""A stand-in that speaks TorchServe's way, and the reports that it gives."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from handlers.findings import FINDINGS
from handlers.report import Correction, ModelVersions, Orientation, Quality, Refusal, Report, Score, Sign
from workflows.register import probe_film

PATIENCE = 30.0
"""Seconds until a test that waits for an event gives up."""
TOKEN = "inference-token"
REPORT_ID = re.compile(r"[0-9a-f]{32}")
VERSIONS = ModelVersions(binary="1.0.0", disease="1.0.0")


def report_of(probability: float, models: ModelVersions = VERSIONS) -> Report:
    """A report that names its film: the probability is what the film asked for."""
    finding = Score.at(probability, 0.5)
    diseases = dict.fromkeys(FINDINGS, Score.at(0.25 if finding.present else 0.0, 0.5))
    return Report(finding=finding, routed=finding.present, diseases=diseases, models=models)


def content(answer: httpx.Response | str | bytes) -> dict[str, Any]:
    """What a report says; its id, which no two reports share, is there."""
    report: dict[str, Any] = json.loads(answer) if isinstance(answer, str | bytes) else answer.json()
    assert REPORT_ID.fullmatch(report.pop("id")), report
    return report


def quality_of(signs: str) -> Quality:
    """Of a film with these signs, ``turned,mirrored``, each said in one warning; ``corrected``: it was inverted."""
    named = [sign for sign in signs.split(",") if sign]
    return Quality(
        in_distribution=0.01 if "unlike" in named else 0.5,
        orientation=Orientation(value="90" if "turned" in named else "upright", score=0.75),
        mirrored=Sign(value="mirrored" in named, score=0.5),
        inverted=Sign(value="inverted" in named, score=0.5),
        unlike="unlike" in named,
        readable=not {"unlike", "turned", "inverted"} & set(named),
        warnings=[f"it is {sign}" for sign in named if sign != "corrected"],
        corrected=Correction(turned="upright", inverted=True) if "corrected" in named else None,
    )


async def _cut_short() -> AsyncIterator[bytes]:
    yield b"half an answer"


class StandIn:
    """Answers ``film:P`` with a report of that probability, ``quality:SIGNS`` with one of 0.75 and ``quality_of``,
    ``refuse:CODE:TYPE`` with a refusal, ``status:CODE`` with an HTTP error, ``cut:`` with a part of an answer, and
    anything else with a report of 0.1. A film that starts with ``held:`` waits for ``release``. A film may end in ``;``
    and anything.

    Attributes:
        films: all that came, but for probes.
        headers: of each of them.
        paths: likewise.
        held: films that wait.
        up: whether probes are answered with a report.
        models: that films are read with.
    """

    def __init__(self) -> None:
        self.films: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.held = 0
        self.up, self.models = True, VERSIONS
        self._changed = threading.Condition()
        self._released = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        self._loop = asyncio.get_running_loop()
        request = Request(scope, receive)
        await (await self._answer(request))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse(
                {"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed"}, 400
            )
        film = await request.body()
        if film == probe_film():
            return PlainTextResponse(report_of(0.1).model_dump_json(), 200 if self.up else 503)
        self.films.append(film)
        self.headers.append(dict(request.headers))
        self.paths.append(request.url.path)
        own = film.split(b"\r\n\r\n")[-1].partition(b"\r\n--")[0] if film.startswith(b"--") else film  # of a form
        kind, _, words = own[:100].decode("latin-1").partition(";")[0].partition(":")
        if kind == "held":
            await self._hold()
            kind, _, words = words.partition(":")
        if kind == "refuse":
            code, _, type = words.partition(":")
            return PlainTextResponse(Refusal.because(int(code), type, "the cascade's own words").model_dump_json())
        if kind == "quality":
            return PlainTextResponse(
                report_of(0.75).model_copy(update={"quality": quality_of(words)}).model_dump_json()
            )
        if kind == "cut":
            return StreamingResponse(_cut_short(), headers={"Content-Length": "1000"})
        if kind == "status":
            return PlainTextResponse("a worker died", int(words))
        return PlainTextResponse(report_of(float(words) if kind == "film" else 0.1, self.models).model_dump_json())

    async def _hold(self) -> None:
        with self._changed:
            self.held += 1
            self._changed.notify_all()
        await self._released.wait()
        with self._changed:
            self.held -= 1
            self._changed.notify_all()

    def wait_until_holding(self, films: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.held == films, PATIENCE), f"{self.held} films, not {films}"

    def release(self) -> None:
        """Lets every film go that is held or comes, until the test's end."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._released.set)

    def reset(self) -> None:
        """As new, once every film has gone."""
        if self._loop is not None:
            self.release()
            self.wait_until_holding(0)
            self._loop.call_soon_threadsafe(self._released.clear)
        for kept in (self.films, self.headers, self.paths):
            kept.clear()
        self.models = VERSIONS
