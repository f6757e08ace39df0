"""Finds the films below a data folder, files or packed, by the ends of the paths that its table gives."""

import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from training.data.shards import packed_films
from workflows.files.text_files import FILM_SUFFIX, DataError, film_name

FOLDERS = ("images", "images-224/images-224", "images-224", ".")
"""Where films lie beside NIH's ``images_001/images`` and so on; of films of one name the first folder's is taken."""


class FilmFiles:
    """The files of some films: folders above those that tell films apart may be others than in the table, or none.

    Args:
        folder: the data folder; hidden folders in it are not looked into, links are followed. Of packed films the index
            alone is read.
        files: the films' paths, as ``film_path`` spells them. One without a suffix is a film of any format; where the
            table's is not there, one of another format is taken (films are often converted).

    Attributes:
        found: by path in the table.
        elsewhere: by path in the table, further files of the same name in other folders, which are not read.
        unlisted: how many other PNG, JPEG and DICOM files there are.

    Raises:
        DataError: two files of one folder that may be the same film, or a damaged packed folder.
    """

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        depth = _depth(files)
        exact = {_tail(file, depth): file for file in files}
        stems = {FILM_SUFFIX.sub("", tail): file for tail, file in exact.items()}
        self.found: dict[str, Path] = {}
        self.elsewhere: dict[str, list[Path]] = {}
        self.unlisted = 0
        converted: dict[str, Path] = {}
        packed = packed_films(folder)

        def place(below: str, name: str) -> Path:
            return folder / below / name if packed is None else packed[posixpath.normpath(f"{below}/{name}")]

        for below, names in _folders(folder) if packed is None else _packed_folders(packed):
            here: dict[str, list[Path]] = {}
            others: dict[str, list[Path]] = {}
            for name in names:
                tail = _tail(posixpath.normpath(posixpath.join(below, film_name(name))), depth)
                stem = FILM_SUFFIX.sub("", tail)
                if tail in exact:
                    here.setdefault(exact[tail], []).append(place(below, name))
                elif stem != tail and stem in stems:
                    others.setdefault(stems[stem], []).append(place(below, name))
                elif stem != tail:
                    self.unlisted += 1
            _refuse_alike(folder / below, here, "letters")
            _refuse_alike(
                folder / below, {file: paths for file, paths in others.items() if file not in here}, "formats"
            )
            for file, (path, *_) in here.items():
                if file in self.found:
                    self.elsewhere.setdefault(file, []).append(path)
                self.found.setdefault(file, path)
            for file, (path, *_) in others.items():
                converted.setdefault(file, path)
        self.found = converted | self.found
        for file in files:  # a path that leads out of the folder
            if packed is None and file not in self.found and "/" in file and (folder / file).is_file():
                self.found[file] = folder / file


def _depth(files: Sequence[str]) -> int:
    """How many of the last parts of their paths tell films apart."""
    deepest = max((file.count("/") for file in files), default=0) + 1
    return next(
        (depth for depth in range(1, deepest) if len({_tail(file, depth) for file in files}) == len(files)), deepest
    )


def _tail(file: str, depth: int) -> str:
    return "/".join(file.rsplit("/", depth)[-depth:])


def _folders(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder below, as a path from there, with its files; NIH's first, the others by name."""
    seen, walked = set[tuple[int, int]](), []
    for here, folders, names in os.walk(folder, followlinks=True):
        stat = os.stat(here)
        if (stat.st_dev, stat.st_ino) in seen:
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]
        walked.append((Path(here).relative_to(folder).as_posix(), sorted(names)))
    yield from sorted(walked, key=lambda one: (_rank(one[0]), one[0]))


def _packed_folders(packed: Mapping[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """The same of packed films."""
    names: dict[str, list[str]] = {}
    for path in packed:
        below, name = posixpath.split(path)
        names.setdefault(below or ".", []).append(name)
    for below in sorted(names, key=lambda one: (_rank(one), one)):
        yield below, sorted(names[below])


def _rank(below: str) -> int:
    if below.startswith("images_") and below.endswith("/images") and below.count("/") == 1:
        return -1
    return FOLDERS.index(below) if below in FOLDERS else len(FOLDERS)


def _refuse_alike(folder: Path, here: dict[str, list[Path]], what: str) -> None:
    if alike := [paths[-1].name for paths in here.values() if paths[1:]]:
        raise DataError(f"{folder}: {len(alike)} films have a namesake in other {what}, the first: {alike[:10]}")
