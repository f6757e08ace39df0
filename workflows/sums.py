"""``sha256sums`` of a store: what ``make archive`` wrote, so that nothing else is served.

It finds a file that was damaged, half copied or put there by mistake. It is no signature: who can write to the store
can write this file too. ``sha256sum -c sha256sums`` in the store checks the same.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from workflows.files.atomic import written
from workflows.server import ServerError

SUMS_FILE = "sha256sums"


class WrongSum(ServerError):
    """An archive is missing, or is not the one whose sum was written."""


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_sums(store: Path) -> dict[str, str]:
    """Name -> SHA-256 in hexadecimal; empty where the store has no sums."""
    path = store / SUMS_FILE
    if not path.exists():
        return {}
    lines = (line.split("  ", 1) for line in path.read_text().splitlines() if "  " in line)
    return {name: digest for digest, name in lines}


def write_sums(store: Path, sums: dict[str, str]) -> None:
    """Writes these sums; see ``new_sums``."""
    with new_sums(store, sums):
        pass


@contextmanager
def new_sums(store: Path, sums: dict[str, str]) -> Iterator[None]:
    """Has new sums ready on the disk, and puts them in place when the block, which moves their files, has ended.

    The sums of the store's other files are kept; a file that is gone loses its line.

    Raises:
        NotWritten: the disk is full; the block was not begun.
    """
    kept = {name: digest for name, digest in read_sums(store).items() if (store / name).exists()} | sums
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(kept.items()))
    with written(store / SUMS_FILE, len(text)) as new:
        new.write_text(text)
        yield


def place(made: Sequence[Path], store: Path) -> list[Path]:
    """Moves files from a folder on the store's disk into the store: all of them and their sums, or none.

    Raises:
        NotWritten: there is no space for the sums.
    """
    with new_sums(store, {path.name: sha256_of(path) for path in made}):
        return [path.replace(store / path.name) for path in made]


def check_sums(store: Path, names: Sequence[str]) -> dict[str, str]:
    """The sums of these files, which are as they were written.

    Raises:
        WrongSum: one is not, or has no sum.
    """
    if missing := [name for name in names if not (store / name).exists()]:
        raise WrongSum(f"{store} lacks {', '.join(missing)}: run 'make archive' first")
    written = read_sums(store)
    for name in names:
        if name not in written:
            raise WrongSum(f"{store / SUMS_FILE} has no line for {name}: run 'make archive' again")
        if sha256_of(store / name) != written[name]:
            raise WrongSum(
                f"{store / name} is not the file that 'make archive' wrote: its sha256 is not the one in "
                f"{store / SUMS_FILE}. Run 'make archive' again, or copy the whole store anew"
            )
    return {name: written[name] for name in names}
