"""Films' bytes, from wherever they lie."""

import errno
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby

import fsspec
from fsspec.core import url_to_fs

from client.score import FILE_NOT_READ
from cluster.sources import Place
from handlers.refusals import CODES, MAX_BYTES
from handlers.report import Refusal

FILM_FAULTS = (OSError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile)
"""What says that one film cannot be read: no file, no permission, no such member, a password, a wrong sum."""
STORE_FAULTS = (ConnectionError, TimeoutError)
BUSY = (errno.EBUSY, errno.ETIMEDOUT)
"""Of an object store that has too much to do, as s3fs says it after some tries of its own."""


def read_files(films: Sequence[Place]) -> list[bytes | Refusal]:
    """Each film's bytes, or why there are none. Files of an object store are fetched at the same time.

    Of a file that is too large for a film only so much is read as tells the decoder.

    Raises:
        Exception: their store does not answer, which is no fault of a film's.
    """
    found: list[bytes | Refusal] = []
    for store, group in groupby(films, _store):
        here = list(group)
        if here[0].zipped:
            with _opened(store) as archive:
                found += [_member(archive, str(film.member)) for film in here]
        else:
            found += _ranges(store, here)
    return found


def _store(film: Place) -> str:
    """What is opened once for films beside each other: an archive, a file system."""
    return film.path if film.zipped else film.path.rpartition("://")[0]


def _ranges(store: str, films: Sequence[Place]) -> list[bytes | Refusal]:
    files = fsspec.filesystem(store or "file")
    asked = [film for film in films if film.length != 0]  # S3 answers an empty range with the whole object
    starts = [film.start or 0 for film in asked]
    lengths = [MAX_BYTES + 1 if film.length is None else min(film.length, MAX_BYTES + 1) for film in asked]
    ends = [start + length for start, length in zip(starts, lengths, strict=True)]
    contents = iter(files.cat_ranges([film.path for film in asked], starts, ends, on_error="return") if asked else ())
    return [b"" if film.length == 0 else _content(film, next(contents)) for film in films]


def _content(film: Place, read: bytes | BaseException) -> bytes | Refusal:
    if isinstance(read, BaseException):
        # S3 knows no range of an empty object (HTTP's 416).
        return b"" if film.length is None and getattr(read, "errno", None) == errno.EINVAL else _refused(read)
    return bytes(read)


@contextmanager
def _opened(path: str) -> Iterator[zipfile.ZipFile | Refusal]:
    with ExitStack() as stack:
        archive: zipfile.ZipFile | Refusal
        try:
            files, inside = url_to_fs(path)
            archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(files.open(inside, "rb"))))
        except FILM_FAULTS as fault:
            archive = _refused(fault)
        yield archive


def _member(archive: zipfile.ZipFile | Refusal, name: str) -> bytes | Refusal:
    if isinstance(archive, Refusal):
        return archive
    try:
        if archive.getinfo(name).file_size > MAX_BYTES:
            return Refusal.because(CODES["ImageTooLarge"], "ImageTooLarge", f"a film has at most {MAX_BYTES} bytes")
        return archive.read(name)
    except FILM_FAULTS as fault:
        return _refused(fault)


def _refused(fault: BaseException) -> Refusal:
    """Why a file was not read; raises what is its store's fault."""
    if not isinstance(fault, FILM_FAULTS) or isinstance(fault, STORE_FAULTS) or getattr(fault, "errno", None) in BUSY:
        raise fault
    return Refusal.because(400, FILE_NOT_READ, str(fault))
