"""The film of a request, limited in bytes and in seconds while it arrives."""

import asyncio
from collections.abc import Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from gateway.problems import Problem

FIELD = "data"
RAW = ("", "application/octet-stream", "application/dicom", "application/x-www-form-urlencoded")
"""Content types whose body is the film; the last is what ``curl --data-binary`` says of every file."""
FORM = "multipart/form-data"


async def read_film(request: Request, max_bytes: int, seconds: float) -> bytes:
    """The body, or its form field ``data``. ``max_bytes`` is of the whole body, a form's boundaries included.

    Raises:
        Problem: 400 no film, a malformed form or contradicting headers; 408 not all there after ``seconds``; 413 over
            ``max_bytes``, said at the first byte over, or at once where Content-Length says so; 415 a content type or
            encoding that is not taken.
        starlette.requests.ClientDisconnect: the client hung up.
    """
    take = _reader(request)
    check_length(request, max_bytes)
    try:
        async with asyncio.timeout(seconds):
            await receive_bounded(request, max_bytes, take.write)
    except TimeoutError:
        raise Problem("UploadTooSlow", f"the body was not all there after {seconds:g} s") from None
    film = take.film()
    if not film:
        raise Problem("EmptyRequest", f"no film: send the file's bytes as the body, or as form field '{FIELD}'")
    return film


class Raw:
    """A body that is the film."""

    def __init__(self) -> None:
        self._film = bytearray()
        self.write = self._film.extend

    def film(self) -> bytes:
        return bytes(self._film)


class Form:
    """A form (RFC 7578) with the one field ``data``.

    Raises (all methods):
        Problem: MalformedForm.
    """

    def __init__(self, boundary: bytes) -> None:
        self._film = bytearray()
        self._header = self._value = b""
        self._name: str | None = None
        self._seen = self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
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


def _reader(request: Request) -> Raw | Form:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise Problem("UnsupportedMediaType", "send the film as it is, without a Content-Encoding")
    if len(request.headers.getlist("content-type")) > 1:
        raise Problem("MalformedRequest", "the request has two Content-Types")
    kind, options = parse_options_header(request.headers.get("content-type"))
    media = kind.decode("latin-1").lower()
    if media == FORM:
        if b"boundary" not in options:
            raise Problem("MalformedForm", "the form's Content-Type names no boundary")
        return Form(options[b"boundary"])
    if media in RAW or media.startswith("image/"):
        return Raw()
    raise Problem(
        "UnsupportedMediaType",
        f"a body of this Content-Type is not read: send application/octet-stream, application/dicom, image/* or {FORM}",
    )


def check_length(request: Request, max_bytes: int) -> None:
    """RFC 9112, section 6.1: a request with both lengths is an attempt at smuggling; the connection goes with it."""
    length = request.headers.get("content-length")
    if length is None:
        return
    if "transfer-encoding" in request.headers:
        headers = {"Connection": "close"}
        raise Problem("MalformedRequest", "Content-Length and Transfer-Encoding in one request", headers=headers)
    if int(length) > max_bytes:
        raise _too_large(max_bytes)


async def receive_bounded(request: Request, max_bytes: int, write: Callable[[bytes], None]) -> None:
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise _too_large(max_bytes)
        write(chunk)


def _too_large(max_bytes: int) -> Problem:
    return Problem("BodyTooLarge", f"the body is over {max_bytes} bytes")
