"""The films of a study: a form with the field ``data`` again and again, limited while it arrives."""

import asyncio
from contextlib import ExitStack
from typing import NamedTuple

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from gateway.admission import Admission
from gateway.body import FIELD, FORM, Form, check_length, receive_bounded
from gateway.problems import Problem

MAX_FILMS = 32
SHARE = 4
"""A study may be as large, and take as long to arrive, as so many films of the largest size."""


class Arrived(NamedTuple):
    """A film of a study, which is admitted until ``admitted`` is closed."""

    data: bytearray
    admitted: ExitStack


async def read_study(request: Request, max_bytes: int, seconds: float, admission: Admission) -> list[Arrived]:
    """The films in the form's order. ``max_bytes`` and ``seconds`` are of one film.

    A film over ``max_bytes`` has one byte more than that, and no others.

    Raises:
        Problem: 400 no film or a malformed form; 408 not all there in time; 413 too many films or bytes; 415 no form;
            429 more films than may be admitted.
        starlette.requests.ClientDisconnect: the client hung up.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind.decode("latin-1").lower() != FORM or b"boundary" not in options:
        raise Problem("UnsupportedMediaType", f"send the films of a study as {FORM}, each as a field '{FIELD}'")
    check_length(request, SHARE * max_bytes)
    with ExitStack() as admitted:
        form = StudyForm(options[b"boundary"], max_bytes, admission, admitted)
        try:
            async with asyncio.timeout(SHARE * seconds):
                await receive_bounded(request, SHARE * max_bytes, form.write)
        except TimeoutError:
            raise Problem("UploadTooSlow", f"the study was not all there after {SHARE * seconds:g} s") from None
        films = form.films()
        admitted.pop_all()
    return films


class StudyForm(Form):
    """A form (RFC 7578) whose every field is ``data``. Each film is admitted as it begins.

    Args:
        admitted: lets every film go where the form is not read to its end.

    Raises (all methods):
        Problem: MalformedForm, BodyTooLarge (too many films), QueueFull.
    """

    def __init__(self, boundary: bytes, max_bytes: int, admission: Admission, admitted: ExitStack) -> None:
        super().__init__(boundary)
        self._films: list[Arrived] = []
        self._max_bytes, self._admission, self._admitted = max_bytes, admission, admitted

    def films(self) -> list[Arrived]:
        super().film()  # refuses a form that is cut short, or empty
        return self._films

    def _check_name(self) -> None:
        self._seen = False
        super()._check_name()
        if len(self._films) == MAX_FILMS:
            raise Problem("BodyTooLarge", f"a study has at most {MAX_FILMS} films")
        admitted = self._admitted.enter_context(ExitStack())
        admitted.enter_context(self._admission.admit())
        self._films.append(Arrived(bytearray(), admitted))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        film = self._films[-1].data
        film += data[start : min(end, start + self._max_bytes + 1 - len(film))]
