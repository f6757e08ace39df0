"""What a request carries: its options, and its film or the films of a study, limited in bytes and in seconds while they
arrive.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from gateway.admission import Admission
from gateway.problems import Problem
from gateway.request_context import RequestContext
from gateway.settings import Settings

FIELD = "data"
RAW = ("", "application/octet-stream", "application/dicom", "application/x-www-form-urlencoded")
"""Content types whose body is the film; the last is what ``curl --data-binary`` says of every file."""
FORM = "multipart/form-data"
JSON = "application/json"
FEEDBACK_BYTES = 16_384
MAX_FILMS = 32
"""Of a study."""
STUDY = 4
"""A study may be as large, and take as long to arrive, as so many films of the largest size."""


class Arrived(NamedTuple):
    """A film of a study."""

    context: RequestContext
    data: bytearray


def read_options(request: Request, *known: str) -> dict[str, str]:
    """The query. A misspelt option is refused: one that is ignored would answer another question than was asked.

    Raises:
        Problem: UnknownParameter.
    """
    given = request.query_params.multi_items()
    for name, _ in given:
        if name not in known:
            raise Problem("UnknownParameter", f"the query parameter {name[:40]!r} is not known here")
    options = dict(given)
    if len(given) > len(options):
        names = " and ".join(f"'{name}'" for name in options)
        raise Problem("UnknownParameter", f"{names} stands there twice; name all findings in one, with commas")
    return options


async def receive_film(request: Request, settings: Settings) -> bytes:
    """The body, or its form field ``data``. ``max_bytes`` is of the whole body, a form's boundaries included.

    Raises:
        Problem: 400 no film, a malformed form or contradicting headers; 408 not all there in time; 413 over
            ``max_bytes``, said at the first byte over, or at once where Content-Length says so; 415 a content type or
            encoding that is not taken.
        starlette.requests.ClientDisconnect: the client hung up.
    """
    body = _body_of(request)
    await _receive(request, body.write, settings.max_bytes, settings.upload_limit)
    film = body.film()
    if not film:
        raise Problem("EmptyRequest", f"no film: send the file's bytes as the body, or as form field '{FIELD}'")
    request.state.context.bytes = len(film)
    return film


async def receive_study(request: Request, settings: Settings, admission: Admission) -> list[Arrived]:
    """The films of a form with the field ``data`` again and again, in its order. Each is admitted as it begins.

    A film over ``max_bytes`` has one byte more than that, and no others.

    Raises:
        Problem: 400 no film or a malformed form; 408 not all there in time; 413 too many films or bytes; 415 no form;
            429 more films than may be admitted.
        starlette.requests.ClientDisconnect: the client hung up.
    """
    media, options = _content_type(request)
    if media != FORM:
        raise Problem("UnsupportedMediaType", f"send the films of a study as {FORM}, each as a field '{FIELD}'")
    form = StudyForm(options, settings.max_bytes, request.state.context, admission)
    await _receive(request, form.write, STUDY * settings.max_bytes, STUDY * settings.upload_limit)
    form.film()  # refuses a form that is cut short, or empty
    request.state.context.bytes = sum(len(film.data) for film in form.films)
    return form.films


async def receive_feedback(request: Request, settings: Settings) -> bytes:
    """A small JSON document.

    Raises:
        Problem: 400 contradicting headers; 408 not all there in time; 413 over ``FEEDBACK_BYTES``; 415 no JSON.
        starlette.requests.ClientDisconnect: the client hung up.
    """
    media, _ = _content_type(request)
    if media != JSON:
        raise Problem("UnsupportedMediaType", f"send what a reader says as {JSON}")
    document = bytearray()
    await _receive(request, document.extend, FEEDBACK_BYTES, settings.upload_limit)
    return bytes(document)


async def _receive(request: Request, write: Callable[[bytes], None], max_bytes: int, seconds: float) -> None:
    length = request.headers.get("content-length")
    if length is not None and "transfer-encoding" in request.headers:
        # RFC 9112, section 6.1: an attempt at smuggling; the connection goes with it.
        headers = {"Connection": "close"}
        raise Problem("MalformedRequest", "Content-Length and Transfer-Encoding in one request", headers=headers)
    too_large = Problem("BodyTooLarge", f"the body is over {max_bytes} bytes")
    if int(length or 0) > max_bytes:
        raise too_large
    received = 0
    try:
        with request.state.context.timed("upload"):
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    received += len(chunk)
                    if received > max_bytes:
                        raise too_large
                    write(chunk)
    except TimeoutError:
        raise Problem("UploadTooSlow", f"the body was not all there after {seconds:g} s") from None


def _content_type(request: Request) -> tuple[str, dict[bytes, bytes]]:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem("UnsupportedMediaType", "send the body as it is, without a Content-Encoding")
    if len(request.headers.getlist("content-type")) > 1:
        raise Problem("MalformedRequest", "the request has two Content-Types")
    kind, options = parse_options_header(request.headers.get("content-type"))
    return kind.decode("latin-1").lower(), options


def _body_of(request: Request) -> "Raw | Form":
    media, options = _content_type(request)
    if media == FORM:
        return Form(options)
    if media in RAW or media.startswith("image/"):
        return Raw()
    raise Problem(
        "UnsupportedMediaType",
        f"a body of this Content-Type is not read: send application/octet-stream, application/dicom, image/* or {FORM}",
    )


class Raw:
    """A body that is the film."""

    def __init__(self) -> None:
        self._film = bytearray()
        self.write = self._film.extend

    def film(self) -> bytes:
        return bytes(self._film)


class Form:
    """A form (RFC 7578) with the one field ``data``.

    Args:
        options: of its Content-Type.

    Raises (all methods):
        Problem: MalformedForm.
    """

    def __init__(self, options: dict[bytes, bytes]) -> None:
        if not options.get(b"boundary"):
            raise Problem("MalformedForm", "the form's Content-Type names no boundary")
        self._film = bytearray()
        self._header = self._value = b""
        self._name: str | None = None
        self._seen = self._ended = False
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._part,
                    "on_header_field": self._add_header,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._check_name,
                    "on_part_data": self._add_data,
                    "on_end": self._end,
                },
            )
        except FormParserError as fault:
            raise Problem("MalformedForm", str(fault)) from None

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as fault:
            raise Problem("MalformedForm", f"the form cannot be read: {fault}") from None

    def film(self) -> bytes:
        if not self._ended:
            raise Problem("MalformedForm", "the form is cut short: its closing boundary is missing")
        if not self._seen:
            raise Problem("MalformedForm", f"the form has no field '{FIELD}'")
        return bytes(self._film)

    def _part(self) -> None:
        self._name = None

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            name = parse_options_header(self._value)[1].get(b"name")
            self._name = None if name is None else name.decode("utf-8", "replace")
        self._header = self._value = b""

    def _check_name(self) -> None:
        if self._name != FIELD:
            found = "a field without a name" if self._name is None else f"the field {self._name[:40]!r}"
            raise Problem("MalformedForm", f"the form holds {found}; send the film as '{FIELD}' and nothing else")
        if self._seen:
            raise Problem("MalformedForm", f"the form holds '{FIELD}' twice; send one film a request")
        self._seen = True

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._film += data[start:end]

    def _end(self) -> None:
        self._ended = True


class StudyForm(Form):
    """A form whose every field is ``data``.

    Args:
        study: the request; at its end those films go that nobody has begun to read.

    Attributes:
        films: those that have begun.

    Raises (all methods):
        Problem: MalformedForm, BodyTooLarge (too many films), QueueFull.
    """

    def __init__(
        self, options: dict[bytes, bytes], max_bytes: int, study: RequestContext, admission: Admission
    ) -> None:
        super().__init__(options)
        self.films: list[Arrived] = []
        self._max_bytes, self._study, self._admission = max_bytes, study, admission

    def _check_name(self) -> None:
        self._seen = False
        super()._check_name()
        number = len(self.films)
        if number == MAX_FILMS:
            raise Problem("BodyTooLarge", f"a study has at most {MAX_FILMS} films")
        film = RequestContext(f"{self._study.id[:60]}.{number}", "study film", event="film", key=self._study.key)
        # The request is admitted as one film: its first.
        film.held.enter_context(self._admission.admit() if number else self._study.held.pop_all())
        self._study.held.enter_context(film.held)
        self.films.append(Arrived(film, bytearray()))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        film = self.films[-1].data
        film += data[start : min(end, start + self._max_bytes + 1 - len(film))]
