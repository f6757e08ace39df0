"""A real disk of a few MB that a test fills to the byte, and commands that run into its end."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SIZE = 16 * 2**20
FILLER = "filler"


class SmallDisk:
    """A tmpfs where this machine lets us mount one; elsewhere a folder, and a limit on the size of files (ulimit -f).

    Attributes:
        folder: its root.
        mounted: whether it is a disk of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
        self.mounted = bool(shutil.which("mount")) and not subprocess.run(mount, capture_output=True).returncode
        self._limit = resource.RLIM_INFINITY

    def fill(self, left: int = 0) -> None:
        """Leaves so many bytes free, in whole pages; where it is no disk, so many for each file."""
        self._limit = left
        if not self.mounted:
            return
        with (self.folder / FILLER).open("wb", buffering=0) as filler:
            with suppress(OSError):  # until the disk is full
                while True:
                    filler.write(bytes(2**16))
            filler.truncate(os.fstat(filler.fileno()).st_size - left)

    def clear(self) -> None:
        """Takes back what ``fill`` took."""
        self._limit = resource.RLIM_INFINITY
        (self.folder / FILLER).unlink(missing_ok=True)

    def start(self, *command: str | Path, **environment: str) -> subprocess.Popen[str]:
        """``python -m ...`` in the project's folder."""
        return subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment},
            preexec_fn=None if self.mounted else self._limited,
        )

    def refuse(self, *command: str | Path, **environment: str) -> str:
        """Runs a command that finds no space; its ``error: ...`` line, which is the last and no traceback."""
        process = self.start(*command, **environment)
        _, said = process.communicate()
        assert process.returncode == 1, said
        assert "Traceback" not in said
        *_, last = said.strip().splitlines()
        # SQLite does not say that it is a file's limit that it meets.
        met = not self.mounted and last.endswith(("/sweep.db: disk I/O error", ".partial: disk I/O error"))
        assert met or last.startswith("error: no space left for "), said
        return last

    def files(self) -> dict[str, bytes]:
        """Everything on the disk: a file's content by its path; folders without any."""
        paths = (path for path in self.folder.rglob("*") if path.name != FILLER)
        return {str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else b"" for path in paths}

    def _limited(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.unmount()
