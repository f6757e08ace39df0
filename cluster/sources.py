"""Which films there are: those of a folder, a list, a Parquet table or archives, local or wherever fsspec reaches.

The list is made once, when a run begins, and kept beside its results (``cluster.results``): 10^7 films are 1 to 2 GB of
the driver's memory while it is made. After that each task reads the part that is its own.
"""

import posixpath
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from client.film_list import DICOM_INDEX, SUFFIXES, FilmListError, find_films, names_of
from client.journal import IMAGE
from workflows.files.text_files import read_list

PATH = "path"
"""The column of a Parquet table that says where each film is: a URI, or a path in the table's folder."""
ZIP, TAR = ".zip", ".tar"
LISTERS = 16
"""Archives whose contents are listed at the same time."""
FILMS = pa.schema(
    {IMAGE: pa.string(), PATH: pa.string(), "member": pa.string(), "start": pa.int64(), "length": pa.int64()}
)
"""A film is a file, a file's bytes from ``start`` on (a tar's), or the ``member`` of a zip archive."""


class Place(NamedTuple):
    """Where a film is, as ``FILMS`` has it."""

    path: str
    member: str | None = None
    start: int | None = None
    length: int | None = None

    @property
    def label(self) -> str:
        return f"{self.path}/{self.member}" if self.member else self.path

    @property
    def zipped(self) -> bool:
        return self.member is not None and self.start is None


def list_films(source: str) -> pa.Table:
    """The films of a source as rows of ``FILMS``, each with a name of its own.

    Folders and archives are listed by name, lists and tables keep their order. In a local folder a film is told by its
    content where its suffix does not; elsewhere it is what is called like one, or has no suffix. What a list or a table
    names is not looked for yet.

    Raises:
        FilmListError: there is no film, a film is named twice, or a name does not fit into a table.
        DataError: a list that is no text.
        FileNotFoundError: no such source.
    """
    files, path = url_to_fs(source)
    if not files.exists(path):
        raise FileNotFoundError(2, "no such file or folder", source)
    folder, names = _address(files, posixpath.dirname(path)), None
    if files.isdir(path):
        places, folder = _in_folder(files, path), _address(files, path)
    elif path.lower().endswith((ZIP, TAR)):
        places = _in_archive(files, path)
    elif path.lower().endswith(".parquet"):
        places, names = _in_table(files, path, folder)
    else:
        places = _in_list(files, path, folder)
    if not places:
        raise FilmListError(f"{source}: no film")
    labels = [place.label for place in places]
    _refuse_twice(source, labels)
    names = names or names_of(Path(folder), labels)
    _refuse_twice(source, names)
    columns = [names, *map(list, zip(*places, strict=True))]
    return pa.table(dict(zip(FILMS.names, columns, strict=True)), schema=FILMS)


def _in_folder(files: fsspec.AbstractFileSystem, folder: str) -> list[Place]:
    local = isinstance(files, LocalFileSystem)
    paths = sorted(path for path in files.find(folder) if not _hidden(path.removeprefix(folder)))
    archives = [path for path in paths if path.lower().endswith((ZIP, TAR))]
    with ThreadPoolExecutor(LISTERS, "archives") as pool:
        inside = [place for part in pool.map(lambda path: _in_archive(files, path), archives) for place in part]
    if not local:
        return [*(Place(_address(files, path)) for path in paths if _called_like_a_film(path)), *inside]
    try:
        return [*(Place(film.path) for film in find_films(Path(folder))[0]), *inside]
    except FilmListError:
        if inside:
            return inside
        raise


def _in_archive(files: fsspec.AbstractFileSystem, path: str) -> list[Place]:
    where = _address(files, path)
    try:
        with files.open(path, "rb") as file:
            if path.lower().endswith(ZIP):
                with zipfile.ZipFile(file) as archive:
                    names = sorted(one.filename for one in archive.infolist() if not one.is_dir())
                return [Place(where, name) for name in names if _called_like_a_film(name) and not _hidden(name)]
            with tarfile.open(fileobj=file, mode="r:") as archive:
                found = sorted((one.name, one.offset_data, one.size) for one in archive if one.isfile())
            return [Place(where, *one) for one in found if _called_like_a_film(one[0]) and not _hidden(one[0])]
    except (zipfile.BadZipFile, tarfile.TarError) as fault:
        raise FilmListError(f"{where}: no whole archive ({fault}). A compressed tar has to be unpacked") from fault


def _in_table(files: fsspec.AbstractFileSystem, path: str, folder: str) -> tuple[list[Place], list[str] | None]:
    """The films of a Parquet table, and their names where it has them."""
    with files.open(path, "rb") as file:
        table = pq.ParquetFile(file)
        columns = [name for name in (PATH, IMAGE) if name in table.schema_arrow.names]
        if PATH not in columns:
            raise FilmListError(f"{path}: no column {PATH!r}; the columns are {table.schema_arrow.names[:12]}")
        rows = table.read(columns=columns)
    if any(rows[column].null_count for column in columns):
        raise FilmListError(f"{path}: a row has nothing under {PATH!r} or {IMAGE!r}")
    places = [Place(_in(folder, one)) for one in rows[PATH].to_pylist()]
    return places, rows[IMAGE].to_pylist() if IMAGE in columns else None


def _in_list(files: fsspec.AbstractFileSystem, path: str, folder: str) -> list[Place]:
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / posixpath.basename(path)
        files.get_file(path, str(copy))
        lines = read_list(copy)
    return [Place(_in(folder, line)) for line in lines]


def _address(files: fsspec.AbstractFileSystem, path: str) -> str:
    """As any node opens it."""
    return path if isinstance(files, LocalFileSystem) else files.unstrip_protocol(path)


def _in(folder: str, name: str) -> str:
    return name if "://" in name else posixpath.join(folder, name)


def _called_like_a_film(path: str) -> bool:
    name = posixpath.basename(path)
    return name.lower().endswith(SUFFIXES) or ("." not in name and name != DICOM_INDEX)


def _hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _refuse_twice(source: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = [name for name, times in Counter(names).items() if times > 1]
        raise FilmListError(f"{source}: {len(twice)} films are there twice, the first: {twice[:10]}")
