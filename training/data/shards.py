"""Films inside tar files: a data folder whose films lie in a few large files instead of many small ones.

``python -m training.data.pack`` makes such a folder. Its index says of each film in which tar file its bytes begin and
end, so that a film is read by one ``pread`` of an open file, in any order: which films a step sees does not change.
"""

import io
import json
import os
from functools import cache
from pathlib import Path, PosixPath
from typing import Any

from workflows.files.text_files import DataError

INDEX = "shards.json"
"""``shards``: the bytes of each tar file; ``films``: by path below the data folder, the tar file's number, the first
byte, how many bytes, and when the packed file was changed, in ns."""


class PackedFilm(PosixPath):
    """A film of a shard, at the path that it had below its data folder. It is read, and described, as a file is.

    Attributes:
        shard: the tar file.
        offset: the film's first byte in it.
        size: in bytes.
        changed: when the packed file was, in ns.
    """

    shard: Path
    offset: int
    size: int
    changed: int

    def read_bytes(self) -> bytes:
        """Raises OSError, as any file may."""
        return os.pread(_opened(self.shard), self.size, self.offset)

    def open(self, *_: Any, **__: Any) -> io.BytesIO:  # type: ignore[override]
        """For reading bytes."""
        return io.BytesIO(self.read_bytes())

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size and time of the file that was packed; nothing else is kept of it."""
        seconds = self.changed // 10**9
        times = {"st_atime_ns": self.changed, "st_mtime_ns": self.changed, "st_ctime_ns": self.changed}
        return os.stat_result((0o100444, 0, 0, 1, 0, 0, self.size, seconds, seconds, seconds), times)


def packed_films(folder: Path) -> dict[str, PackedFilm] | None:
    """The films of a folder by their path below it; None where it has no index: its films are files.

    Raises:
        DataError: a tar file is missing, or cut short.
    """
    if not (folder / INDEX).exists():
        return None
    index = json.loads((folder / INDEX).read_text())
    shards = [folder / name for name in index["shards"]]
    for path, size in zip(shards, index["shards"].values(), strict=True):
        if not path.exists() or path.stat().st_size != size:
            held = f"holds {path.stat().st_size}" if path.exists() else "is missing"
            raise DataError(f"{path} {held}, where {folder / INDEX} says {size} bytes: fetch or pack it anew")
    films = {}
    for below, (number, offset, size, changed) in index["films"].items():
        film = films[below] = PackedFilm(folder / below)
        film.shard, film.offset, film.size, film.changed = shards[number], offset, size, changed
    return films


@cache
def _opened(shard: Path) -> int:
    """A tar file stays open as long as the process lives: opening is what a slow disk takes longest for."""
    return os.open(shard, os.O_RDONLY | os.O_CLOEXEC)
