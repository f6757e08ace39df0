"""Every film decoded and resized once, into one memory-mapped file per data folder and image size."""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from handlers.image import read_film, to_pixels
from handlers.refused import RefusedFilm
from training.data import Films, refuse

HANDLERS = Path(__file__).parent.parent / "handlers"
DECODER = [HANDLERS / f"{name}.py" for name in ("image", "containers", "dicom", "frames", "codec_process", "refused")]
PIXELS, INDEX = "pixels.npy", "index.json"


@dataclass(frozen=True)
class Cache:
    """Pixels of some films.

    Attributes:
        pixels: [N, S, S] uint8, memory-mapped.
        index: per path: the file's size and time in ns, its row, and why it could not be read (or "").
    """

    pixels: NDArray[np.uint8]
    index: dict[str, tuple[int, int, int, str]]


def load_pixels(films: Films, size: int, cache: Path, skip_unreadable: bool) -> tuple[Films, NDArray[np.uint8]]:
    """The films that can be read, and their pixels [N, size, size] uint8, row for row.

    Decodes only files that are new or changed since the last call. A kill at any moment leaves either the old
    cache or the new one. Caches of one folder serve one process at a time.

    Raises:
        DataError: unreadable films (the first ten and their number), unless ``skip_unreadable``.
    """
    folder = cache / f"{films.folder.resolve().name}-{_key(films.folder)}-{size}"
    stored = _open(folder)
    paths = [str(path) for path in films.table["path"]]
    stamps = [(stat.st_size, stat.st_mtime_ns) for stat in map(os.stat, paths)]
    fresh = [
        path in stored.index and stored.index[path][:2] == stamp for path, stamp in zip(paths, stamps, strict=True)
    ]
    if not all(fresh) or len(stored.index) != len(paths):
        stored = _rebuild(folder, stored, paths, stamps, fresh, size)
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
    source = b"".join(path.read_bytes() for path in DECODER)
    return hashlib.sha256(str(folder.resolve()).encode() + source).hexdigest()[:12]


def _open(folder: Path) -> Cache:
    if not (folder / INDEX).exists():
        return Cache(np.zeros((0, 0, 0), np.uint8), {})
    index = {path: tuple(entry) for path, entry in json.loads((folder / INDEX).read_text()).items()}
    return Cache(np.load(folder / PIXELS, mmap_mode="r"), index)


def _rebuild(
    folder: Path, stored: Cache, paths: list[str], stamps: list[tuple[int, int]], fresh: list[bool], size: int
) -> Cache:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    pixels = np.lib.format.open_memmap(partial / PIXELS, mode="w+", dtype=np.uint8, shape=(len(paths), size, size))

    def fill(row: int) -> str:
        if fresh[row]:
            _, _, old, fault = stored.index[paths[row]]
            pixels[row] = stored.pixels[old]
            return fault
        try:
            pixels[row] = to_pixels(read_film(Path(paths[row]).read_bytes()), size)
        except RefusedFilm as refused:
            return refused.message
        return ""

    with ThreadPoolExecutor() as pool:  # Pillow releases the interpreter lock while it decodes
        bar = tqdm(pool.map(fill, range(len(paths))), "decoding films", len(paths), unit="film", disable=None)
        faults = list(bar)
    pixels.flush()
    index = {path: (*stamps[row], row, faults[row]) for row, path in enumerate(paths)}
    (partial / INDEX).write_text(json.dumps(index))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return _open(folder)
