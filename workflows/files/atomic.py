"""Files and folders that a reader finds old or new, and whole, whatever ends their writer: a kill, a full disk.

Each is made under a name of its own beside the one that it will have, brought to the disk (quotas and network disks say
only then that they are full), and renamed. What a killed writer leaves under such a name goes when the next one begins.
"""

import ctypes
import errno
import fcntl
import glob
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of a disk, a quota, and a limit on the size of a file (``ulimit -f``)."""
SAYS_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|iostream error|database or disk is full"
)
"""The same in the words of programs and libraries that raise no OSError: safetensors, PyTorch, SQLite."""
PARTIAL = ".partial"
UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


class NotWritten(OSError):
    """The disk is full: what was to be written, how much it takes and what is free. Nothing of it is left."""


def says_full(fault: BaseException) -> bool:
    """Whether a full disk is what is behind an exception."""
    behind: BaseException | None = fault
    while behind is not None:
        if getattr(behind, "errno", None) in FULL or SAYS_FULL.search(str(behind)):
            return True
        behind = behind.__cause__ or behind.__context__
    return False


@contextmanager
def written(path: Path, size: int | None = None, mode: int = 0o666) -> Iterator[Path]:
    """An empty file to write, which takes ``path``'s place when the block ends, and is removed where the block fails.

    What is no file (``/dev/stdout``, a pipe) is written as it is. A link stays, and what it points to is replaced.

    Args:
        path: the file; its folder is made where it is missing.
        size: bytes that it will take, for the message, where they are known.
        mode: permissions, less the umask.

    Raises:
        NotWritten: the disk is full.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    path = path.resolve()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with _temporary(path, lambda new: os.close(os.open(new, flags, mode)), size) as new:
        yield new
        _sync(new)
        new.replace(path)
        _sync(path.parent)


def write_text(path: Path, text: str, mode: int = 0o666) -> None:
    """A text file in UTF-8; raises NotWritten where the disk is full."""
    data = text.encode()
    with written(path, len(data), mode) as new:
        new.write_bytes(data)


def write_together(files: Mapping[Path, str | bytes], mode: int = 0o666) -> None:
    """Several files, text in UTF-8: none is replaced before all are on the disk.

    Raises:
        NotWritten: the disk is full; the old ones are all there.
    """
    with ExitStack() as stack:
        for path, content in reversed(list(files.items())):  # the stack renames the last one first
            data = content.encode() if isinstance(content, str) else content
            new = stack.enter_context(written(path, len(data), mode))
            new.write_bytes(data)
            _sync(new)


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes ``path``'s place when the block ends, and is removed where the block fails.

    Two processes may do this at once: the last one's folder stays.

    Raises:
        NotWritten: the disk is full.
        NotADirectoryError: a file has the name.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file is there, where a folder belongs", str(path))
    with _temporary(path, Path.mkdir) as new:
        yield new
        for each in (*new.rglob("*"), new):
            _sync(each)
        _swap(new, path)
        _sync(path.parent)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside ``path``, on its disk, which is removed when the block ends.

    Raises:
        NotWritten: the disk is full.
    """
    with _temporary(path.resolve(), Path.mkdir) as new:
        yield new


@contextmanager
def naming(path: Path, size: int | None = None) -> Iterator[None]:
    """Names what is written in the block, which fails with NotWritten where the disk is full."""
    try:
        yield
    except NotWritten:
        raise
    except Exception as fault:
        if not says_full(fault):
            raise
        raise _not_written(path, None if size is None else size_of(size)) from fault


def restore(path: Path) -> None:
    """Gives a folder its name back where a kill came between ``written_folder``'s two renames (see ``_swap``)."""
    old = _old(path)
    if old.exists() and not path.exists():
        old.rename(path)


@contextmanager
def _temporary(path: Path, make: Callable[[Path], object], size: int | None = None) -> Iterator[Path]:
    """A name beside ``path`` that nothing else has, made and held; what is still there at the end is removed."""
    with naming(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        new, held = _held(path, make)
        try:
            yield new
        except Exception as fault:
            if not says_full(fault):
                raise
            takes = f"more than {size_of(_bytes(new))}" if size is None else size_of(size)
            _remove(new)
            raise _not_written(path, takes) from fault
        finally:
            os.close(held)
            _remove(new)


def _not_written(path: Path, takes: str | None) -> NotWritten:
    folder = next(folder for folder in path.absolute().parents if folder.is_dir())
    needs = f"it takes {takes}, " if takes else ""
    free = size_of(shutil.disk_usage(folder).free)
    return NotWritten(f"no space left for {path}: {needs}{free} are free there. Make room, or name another place")


def size_of(number: int) -> str:
    """Bytes for a person: ``30.1 MB``."""
    unit, name = next(((unit, name) for unit, name in UNITS if number >= unit), UNITS[-1])
    return f"{number / unit:.1f} {name}"


def _held(path: Path, make: Callable[[Path], object]) -> tuple[Path, int]:
    """A new temporary name, and its open descriptor, whose lock says that its writer lives."""
    while True:
        new = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}{PARTIAL}")
        make(new)
        # Another writer that begins may take what nobody holds yet for abandoned: then it is made again.
        try:
            held = os.open(new, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            continue
        except OSError:  # a disk without locks: there nothing is taken for abandoned
            pass
        if new.exists():
            return new, held
        os.close(held)


def _remove_abandoned(path: Path) -> None:
    for left in path.parent.glob(f".{glob.escape(path.name[:100])}.*{PARTIAL}"):
        with suppress(OSError):  # its writer lives, or it is gone already
            held = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
            finally:
                os.close(held)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _swap(new: Path, path: Path) -> None:
    """Gives a folder its name; what had the name is ``new`` afterwards, or gone.

    In one step where the kernel and the disk can (Linux, renameat2(2)). Elsewhere the old folder is called ``NAME.old``
    for a moment, and a kill in that moment leaves it so: ``restore``.
    """
    while not _exchange(new, path):
        try:
            new.rename(path)
            break
        except OSError as fault:
            if fault.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        shutil.rmtree(_old(path), ignore_errors=True)
        with suppress(FileNotFoundError):  # another writer's turn
            path.rename(_old(path))
    shutil.rmtree(_old(path), ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return call is not None and call(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _old(path: Path) -> Path:
    return path.with_name(f"{path.name}.old")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bytes(path: Path) -> int:
    return sum(each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file())
