"""The gateway's API keys: made, listed and revoked by a command, in force at the gateway's next request.

    python -m gateway.keys make ward-3      # prints the key, once
    python -m gateway.keys list
    python -m gateway.keys revoke ward-3
    python -m gateway.keys first            # secrets/first.key where no key was made yet, and where it lies

To rotate: make a second key, hand it over, revoke the first. ``keys.json`` holds no key, only SHA-256 digests. A fast
hash is enough: a key is 256 random bits, which nobody can guess, where a slow one protects what a person chose.
"""

import argparse
import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from workflows import command_line
from workflows.files.atomic import write_text, write_together

KEYS_FILE = "keys.json"
FIRST_KEY_FILE = "first.key"
PRIVATE = 0o600
"""Permissions of both: the first holds a key, and who can write the other can add one."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
"""Of a key's holder: it goes into the logs."""

logger = logging.getLogger(__name__)


class KeyFault(command_line.Fault):
    """A name is taken, unknown or malformed, or ``keys.json`` is not ours."""


class Entry(BaseModel):
    """One key: whose, its SHA-256 in hexadecimal, and when it was made and revoked (UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    sha256: str
    made: datetime
    revoked: datetime | None = None


_ENTRIES = TypeAdapter(list[Entry])


class Keys:
    """The keys of a file, read anew when it has changed.

    Args:
        path: ``keys.json``. Without it, or where it cannot be read, no key is good.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._good: list[tuple[bytes, str]] = []

    def holder(self, key: str) -> str | None:
        """Whose key this is; None where it is unknown or revoked. Takes as long for a wrong key as for a right one."""
        self._refresh()
        digest, holder = _digest(key).encode(), None
        for known, name in self._good:
            if hmac.compare_digest(known, digest):
                holder = name
        return holder

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen == self._seen:
                return
            self._seen, self._good = seen, []
            self._good = [(one.sha256.encode(), one.name) for one in _read(self._path) if one.revoked is None]
        except FileNotFoundError:
            self._seen, self._good = None, []
        except KeyFault as fault:
            logger.error("no key is good: %s", fault)
        except OSError as fault:  # it may be read again at the next request
            self._seen, self._good = None, []
            logger.error("no key is good: %s", fault)


def make(path: Path, name: str) -> str:
    """A new key for ``name``; only its digest is kept.

    Raises:
        KeyFault: the name is taken (a revoked key's too) or malformed.
    """
    if not NAME.fullmatch(name):
        raise KeyFault(f"{name!r} is no name for a key: letters, digits, '.', '_' and '-', 40 at most")
    with _held(path):
        entries = _read(path) if path.exists() else []
        if any(one.name == name for one in entries):
            raise KeyFault(f"{name} has a key already; take another name, such as {name}-2, and revoke the old one")
        key = _new_key()
        write_text(path, _json([*entries, _entry(name, key)]), PRIVATE)
    return key


def revoke(path: Path, name: str) -> None:
    """Takes the key of ``name`` back, for good.

    Raises:
        KeyFault: there is no such key.
    """
    with _held(path):
        entries = _read(path) if path.exists() else []
        if all(one.name != name for one in entries):
            raise KeyFault(f"{path} has no key of {name!r}; 'python -m gateway.keys list' shows them")
        dead = {"revoked": _now()}
        write_text(path, _json([one.model_copy(update=dead) if one.name == name else one for one in entries]), PRIVATE)


def first_key(folder: Path) -> Path | None:
    """Makes ``keys.json`` and ``first.key`` where no keys are; returns where the first key lies, None if nowhere.

    Raises:
        NotWritten: the disk is full; neither is there, as a key that nobody was given would be of no use.
    """
    path, first = folder / KEYS_FILE, folder / FIRST_KEY_FILE
    with _held(path):
        if not path.exists():
            key = _new_key()
            write_together({first: f"{key}\n", path: _json([_entry("first", key)])}, PRIVATE)
    return first if first.exists() else None


def _new_key() -> str:
    return f"cxr_{secrets.token_urlsafe(32)}"


def _entry(name: str, key: str) -> Entry:
    return Entry(name=name, sha256=_digest(key), made=_now())


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _read(path: Path) -> list[Entry]:
    try:
        return _ENTRIES.validate_json(path.read_bytes())
    except ValidationError as fault:
        raise KeyFault(f"{path} is not what 'python -m gateway.keys' wrote: {fault.errors()[0]['msg']}") from None


def _json(entries: list[Entry]) -> str:
    return json.dumps([one.model_dump(mode="json") for one in entries], indent=2) + "\n"


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Two commands at once must not lose a key: the folder is locked meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m gateway.keys") -> None:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("make", "list", "revoke", "first"))
    parser.add_argument("name", nargs="?", help="whose key; it appears in the logs")
    parser.add_argument("--secrets", type=Path, default=Path("secrets"), metavar="DIR", help="folder (%(default)s)")
    chosen = parser.parse_args(arguments)
    path = chosen.secrets / KEYS_FILE
    if (chosen.name is None) != (chosen.action in ("list", "first")):
        parser.error("make and revoke want a NAME, list and first want none")
    if chosen.action == "make":
        print(make(path, chosen.name))
    elif chosen.action == "revoke":
        revoke(path, chosen.name)
    elif chosen.action == "first":
        print(first_key(chosen.secrets) or "made by 'python -m gateway.keys make NAME'")
    else:
        for one in _read(path) if path.exists() else []:
            print(f"{one.name}\tmade {one.made}\t{f'revoked {one.revoked}' if one.revoked else 'good'}")


if __name__ == "__main__":
    command_line.run(main)
