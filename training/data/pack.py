"""Packs a data folder's films into tar files, of which a slow shared disk gives them faster than one by one.

    python -m training.data.pack /data/nih --out /data/nih-shards
    python -m training.train --data.folder /data/nih-shards ...

The new folder is a data folder like the old one, with the same tables: every command takes it. The films' bytes, names
and times are kept, so that a run goes on from either. After a kill the same command goes on with the next tar file.
"""

import argparse
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from json import dumps
from os.path import relpath
from pathlib import Path

from tqdm import tqdm

from training.data.film_files import FilmFiles
from training.data.films import read_table
from training.data.shards import INDEX
from workflows import command_line
from workflows.files.atomic import size_of, write_text, written
from workflows.files.text_files import DataError

BEGUN = ".packing"
"""The file that says of a folder which films are being packed into it."""
TABLES = ("*.csv", "*.csv.gz", "*.txt", "annotations/*.csv", "annotations/*.csv.gz")
"""What is copied beside the films."""
SHARD_BYTES = 256 * 2**20


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.data.pack") -> None:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the data folder")
    parser.add_argument("--out", type=Path, required=True, help="a new folder, for the tar files and the tables")
    chosen = parser.parse_args(arguments)
    pack(chosen.data, chosen.out)


def pack(folder: Path, out: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Packs the films that the folder's tables name, in the tables' order.

    Args:
        folder: holds the tables of a layout, and the films.
        out: a new or empty folder, or one that an earlier call with the same ``folder`` has begun.
        shard_bytes: most bytes of films in a tar file, unless one film alone has more.

    Raises:
        DataError: as ``read_table``, or ``out`` is something else.
        NotWritten: the disk is full; the tar files that are finished stay.
    """
    _refuse(folder, out)
    listed = read_table(folder).table["file"].tolist()
    found = FilmFiles(folder, listed).found
    films = [found[file] for file in listed if file in found]
    write_text(out / BEGUN, str(folder.resolve()))
    for table in sorted(path for pattern in TABLES for path in folder.glob(pattern)):
        with written(out / table.relative_to(folder)) as new:
            new.write_bytes(table.read_bytes())
    names, places = list[str](), dict[str, tuple[int, int, int, int]]()
    with tqdm(desc="packing films", total=len(films), unit="film", disable=None) as bar:
        for number, part in enumerate(_parts(films, shard_bytes)):
            names.append(f"films-{number:05}.tar")
            for film, offset, size in _shard(out / names[-1], folder, part):
                places[_below(folder, film)] = number, offset, size, film.stat().st_mtime_ns
            bar.update(len(part))
    sizes = {name: (out / name).stat().st_size for name in names}
    write_text(out / INDEX, dumps({"shards": sizes, "films": places}))
    (out / BEGUN).unlink()
    if missing := len(listed) - len(films):
        print(f"{missing} films that the tables name are missing in {folder}, and so they are in {out}")
    print(f"{len(films)} films in {len(names)} tar files, {size_of(sum(sizes.values()))}: --data.folder {out}")


def _refuse(folder: Path, out: Path) -> None:
    """Raises DataError where ``out`` is not for these films to be packed into."""
    if (out / INDEX).exists():
        raise DataError(f"{out} holds packed films already, and they stay: name another folder with --out")
    if out.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{out} lies in {folder}, whose films are to be packed: name another folder with --out")
    if (out / BEGUN).exists():
        if (begun := (out / BEGUN).read_text()) != str(folder.resolve()):
            raise DataError(f"{out} was begun with the films of {begun}: name another folder with --out")
    elif out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty: name a new folder with --out")


def _parts(films: list[Path], shard_bytes: int) -> Iterator[list[Path]]:
    """The films of each tar file."""
    part, held = list[Path](), 0
    for film in films:
        size = film.stat().st_size
        if part and held + size > shard_bytes:
            yield part
            part, held = [], 0
        part.append(film)
        held += size
    if part:
        yield part


def _shard(path: Path, folder: Path, films: list[Path]) -> list[tuple[Path, int, int]]:
    """Each film with its first byte in the tar file and its bytes; the file is written unless it holds just these."""
    wanted = [(_member(folder, film), film.stat().st_size, film.stat().st_mtime_ns // 10**9) for film in films]
    if not path.exists() or [(one.name, one.size, one.mtime) for one in _members(path)] != wanted:
        _write(path, wanted, films)
    return [(film, one.offset_data, one.size) for film, one in zip(films, _members(path), strict=True)]


def _write(path: Path, wanted: list[tuple[str, int, int]], films: list[Path]) -> None:
    """A tar file of films under the names, sizes and times that are wanted."""
    with (
        written(path, sum(size for _, size, _ in wanted)) as new,
        tarfile.open(new, "w") as tar,
        ThreadPoolExecutor() as pool,  # a slow disk is asked for several films at once
    ):
        read = pool.map(lambda film: film.read_bytes(), films)
        for (name, _, changed), data in zip(wanted, read, strict=True):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(data), changed
            tar.addfile(entry, BytesIO(data))


def _members(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path, "r:") as tar:
        return tar.getmembers()


def _below(folder: Path, film: Path) -> str:
    return Path(relpath(film, folder)).as_posix()


def _member(folder: Path, film: Path) -> str:
    """Its name in a tar file, which leads out of no folder that the file is unpacked into."""
    return posixpath.normpath("/" + _below(folder, film)).lstrip("/")


if __name__ == "__main__":
    command_line.run(main)
