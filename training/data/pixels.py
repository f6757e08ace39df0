"""Every film decoded and resized once, into one memory-mapped file per data folder and image size.

A cache folder holds ``index.json``, which names the file of pixels that belongs to it. A new cache is a new file of
pixels, and then a new index in one rename: a kill at any moment leaves the old cache or the new one.
"""

import hashlib
import json
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm import tqdm

from handlers.decoding.image import read_film, to_pixels
from handlers.refusals import RefusedFilm
from training.data.films import Films, refuse
from training.data.reader_code import reader_hash
from workflows.files.atomic import FULL, write_text, written

INDEX, LOCK = "index.json", "lock"

Stamp = tuple[int, int]
"""Of a file: its size, and when it was changed, in ns."""


@dataclass(frozen=True)
class Cache:
    """Pixels of some films.

    Attributes:
        file: name of the file of pixels.
        pixels: [N, S, S] uint8, memory-mapped.
        index: per path: the file's size and time in ns, its row, and why it could not be read (or "").
    """

    file: str
    pixels: NDArray[np.uint8]
    index: dict[str, tuple[int, int, int, str]]

    def holds(self, paths: Sequence[str], stamps: Sequence[Stamp]) -> bool:
        """Whether these films are here, as they are now, and no others."""
        return len(self.index) == len(paths) and all(map(self.fresh, paths, stamps))

    def fresh(self, path: str, stamp: Stamp) -> bool:
        return path in self.index and self.index[path][:2] == stamp


def load_pixels(films: Films, size: int, cache: Path, skip_unreadable: bool) -> tuple[Films, NDArray[np.uint8]]:
    """The films that can be read, and their pixels [N, size, size] uint8, row for row.

    Decodes only files that are new or changed since the last call. Of several processes on one cache, the ranks of one
    training among them, one decodes and the others wait for it; pixels that a process has keep their values whatever
    others do to the cache. A cache that holds these films already is only read.

    Raises:
        DataError: unreadable films (the first ten and their number), unless ``skip_unreadable``.
        NotWritten: the pixels do not fit on the disk; nothing of them stays.
    """
    folder = cache / f"{films.folder.resolve().name}-{_key(films.folder)}-{size}"
    files: list[Path] = films.table["path"].tolist()
    paths = [str(file) for file in files]
    stamps = [(stat.st_size, stat.st_mtime_ns) for stat in (file.stat() for file in files)]
    stored = _open(folder)
    if not stored.holds(paths, stamps):
        with held(folder, "decodes the films"):
            stored = _open(folder)  # another process may have filled it meanwhile
            if not stored.holds(paths, stamps):
                stored = _rebuild(folder, stored, files, stamps, size)
    entries = [stored.index[path] for path in paths]
    unreadable = [f"{path}: {entry[3]}" for path, entry in zip(paths, entries, strict=True) if entry[3]]
    if unreadable and not skip_unreadable:
        refuse(films.folder, unreadable, "films cannot be read")
    readable = np.array([not entry[3] for entry in entries])
    rows = np.array([entry[2] for entry in entries])[readable]
    in_order = len(rows) == len(stored.pixels) and bool((rows == np.arange(len(rows))).all())
    return films.keep(readable), stored.pixels if in_order else stored.pixels[rows]


def _key(folder: Path) -> str:
    """Another folder, or another decoder, is another cache."""
    return hashlib.sha256(f"{folder.resolve()} {reader_hash()}".encode()).hexdigest()[:12]


def _open(folder: Path) -> Cache:
    """The cache as it is; an empty one where there is none, or where it was damaged."""
    seen = None
    while (folder / INDEX).exists():
        try:
            index = json.loads((folder / INDEX).read_text())
            pixels = np.load(folder / index["pixels"], mmap_mode="r")
            return Cache(index["pixels"], pixels, {path: tuple(entry) for path, entry in index["films"].items()})
        except FileNotFoundError:  # another process has put a new cache in place between the two reads
            if seen == (seen := index["pixels"]):
                break
        except (ValueError, KeyError):
            break
    return Cache("", np.zeros((0, 0, 0), np.uint8), {})


@contextmanager
def held(folder: Path, doing: str) -> Iterator[None]:
    """One process at a time fills a cache. The lock is the kernel's: it ends with the process, whatever ends that."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"another process {doing} into {folder}; waiting for it", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _rebuild(folder: Path, stored: Cache, files: list[Path], stamps: list[Stamp], size: int) -> Cache:
    _remove_others(folder, stored.file)  # what a killed process had begun
    name = f"pixels-{secrets.token_hex(4)}.npy"
    with written(folder / name, len(files) * size * size) as new, new.open("r+b") as file:
        faults = _fill(file, stored, files, stamps, size)
    films = {str(path): (*stamps[row], row, faults[row]) for row, path in enumerate(files)}
    write_text(folder / INDEX, json.dumps({"pixels": name, "films": films}))
    _remove_others(folder, name)
    return _open(folder)


def _fill(file: BinaryIO, stored: Cache, films: list[Path], stamps: list[Stamp], size: int) -> list[str]:
    """Writes an array [N, size, size] uint8 in NumPy's format; returns why each film could not be read, or "".

    Written, not mapped: a process that writes to mapped pages of a full disk is killed (SIGBUS).
    """
    shape = len(films), size, size
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    file.flush()
    begin, film = file.tell(), size * size
    _reserve(file, begin + len(films) * film)

    def fill(row: int) -> str:
        if stored.fresh(str(films[row]), stamps[row]):
            _, _, old, fault = stored.index[str(films[row])]
            _write(file, stored.pixels[old].tobytes(), begin + row * film)
            return fault
        try:
            pixels = to_pixels(read_film(films[row].read_bytes()), size)
        except RefusedFilm as refused:
            return refused.message
        _write(file, pixels.tobytes(), begin + row * film)
        return ""

    with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter lock while it decodes
        bar = tqdm(pool.map(fill, range(len(films))), "decoding films", len(films), unit="film", disable=None)
        return list(bar)


def _reserve(file: BinaryIO, size: int) -> None:
    """Takes the whole space now, zeros, so that a full disk is noticed before the first film is decoded."""
    os.ftruncate(file.fileno(), size)
    if sys.platform == "linux":
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as fault:
            if fault.errno in FULL:
                raise  # else the disk knows no reservations, and each write may find it full


def _write(file: BinaryIO, data: bytes, at: int) -> None:
    while data:
        number = os.pwrite(file.fileno(), data, at)
        data, at = data[number:], at + number


def _remove_others(folder: Path, name: str) -> None:
    """Deletes all pixels but those of one name. A process that has them mapped keeps them."""
    for path in folder.iterdir():
        if "pixels-" in path.name and path.name != name:
            path.unlink()
