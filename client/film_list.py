"""Which films are scored, and what each one's row is called."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from handlers.decoding.containers import DICOM, JPEG, PNG, is_dicom
from workflows.files.text_files import DataError, film_name, film_path, read_list

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")
"""A file of such a name is meant as a film: what is wrong with it is said in its row. Any other is looked into."""
DICOM_INDEX = "DICOMDIR"
"""PS3.10, section 8.6: a list of the DICOM files of its folder, and no film."""


class FilmListError(DataError):
    """There is nothing to score, or it cannot be told what; the message says why."""


@dataclass(frozen=True)
class Film:
    """A file, and its row's ``Image Index``."""

    name: str
    path: str


def find_films(folder: Path) -> tuple[list[Film], int]:
    """The films under a folder in the order of their paths, and the number of files that are none.

    Folders and files whose name starts with a dot are left out. Links are followed.

    Raises:
        FilmListError: no film, or a name that a table cannot hold.
        OSError: a folder or file cannot be read.
    """
    paths, others = [], 0
    for path in _files(folder):
        if _is_film(path):
            paths.append(path)
        else:
            others += 1
    if not paths:
        raise FilmListError(f"{folder}: no PNG, JPEG or DICOM file among {others} files")
    return _named(folder, paths), others


def listed_films(folder: Path, listing: Path) -> list[Film]:
    """The films of a list, one a line, in its order: absolute paths, or relative to the folder.

    A film that is not there is looked for in all the folders under it: by its bare name, so that NIH's
    ``test_list.txt`` can be used as it is, and by as much of a path as both sides have. ``.PNG`` finds ``.png``, and
    ``\\`` parts folders as ``/`` does.

    Raises:
        DataError: the list cannot be read or is empty, or it names a film twice, or one that is not there or there
            twice.
        OSError: the list or a folder cannot be read.
    """
    lines = read_list(listing)
    paths = [os.path.normpath(os.path.join(folder, line)) for line in lines]
    lacking = {path: line for path, line in zip(paths, lines, strict=True) if not os.path.isfile(path)}
    if lacking:
        known = _by_name(folder)
        found = {path: _like(line, folder, known) for path, line in lacking.items()}
        _refuse(listing, "films are not there", [lacking[path] for path in found if not found[path]])
        _refuse(listing, f"names stand for several files under {folder}", [lacking[p] for p in found if found[p][1:]])
        paths = [found[path][0] if path in found else path for path in paths]
    _refuse(listing, "films are listed twice", [path for path, times in Counter(paths).items() if times > 1])
    return _named(folder, paths)


def _like(line: str, folder: Path, known: dict[str, list[str]]) -> list[str]:
    """The files that a line can mean: their path under the folder ends with the line's, or with the end of an absolute
    path from another machine."""
    wanted = film_path(line)
    absolute = wanted.startswith("/") or wanted[1:3] == ":/"
    alike = {path: film_path(os.path.relpath(path, folder)) for path in known.get(film_name(line), [])}
    return [
        path
        for path, relative in alike.items()
        if f"/{relative}".endswith(f"/{wanted}") or (absolute and wanted.endswith(f"/{relative}"))
    ]


def _files(folder: Path) -> Iterator[str]:
    seen = set()
    for here, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(here, name) for name in sorted(files) if not name.startswith("."))


def _raise(fault: OSError) -> None:
    raise fault


def _is_film(path: str) -> bool:
    if path.lower().endswith(SUFFIXES):
        return True
    if os.path.basename(path) == DICOM_INDEX or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        head = file.read(DICOM.stop)
    return head.startswith((PNG, JPEG)) or is_dicom(head)


def _by_name(folder: Path) -> dict[str, list[str]]:
    known: dict[str, list[str]] = {}
    for path in _files(folder):
        known.setdefault(film_name(os.path.basename(path)), []).append(path)
    return known


def names_of(folder: Path, paths: Sequence[str]) -> list[str]:
    """By bare name, as NIH's tables do, where no two films share one; else by path, relative to the folder.

    Raises:
        FilmListError: a name that a table cannot hold.
    """
    names = [os.path.basename(path) for path in paths]
    if len(set(names)) < len(names):
        names = [os.path.relpath(path, folder) if Path(path).is_relative_to(folder) else path for path in paths]
    _refuse(folder, "names hold a line break, or are no UTF-8: rename them", [n for n in names if not _fits(n)])
    return names


def _named(folder: Path, paths: Sequence[str]) -> list[Film]:
    return [Film(name, path) for name, path in zip(names_of(folder, paths), paths, strict=True)]


def _fits(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return len(name.splitlines()) == 1


def _refuse(where: Path, what: str, names: Sequence[str]) -> None:
    if names:
        raise FilmListError(f"{where}: {len(names)} {what}, the first: {list(names[:10])}")
