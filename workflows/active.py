"""Which workflow is served: ``active`` in the live store, one name a line, the served one first, then the one before.

Without the file it is ``chest_xray``, which a start deploys. ``workflows.roll`` switches.
"""

import logging
import re
from pathlib import Path

from workflows.files.atomic import write_text
from workflows.server import Server

WORKFLOW = "chest_xray"
NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
"""Of a workflow: it becomes part of a URL and of file names."""

logger = logging.getLogger(__name__)


class Active:
    """The name of the served workflow, read anew when the file has changed.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._names = [WORKFLOW]

    @classmethod
    def of(cls, server: Server) -> "Active":
        return cls(server.store / "active")

    def name(self) -> str:
        """The workflow that films go to. A file that holds no name leaves it as it was, and the log says so."""
        return self._read()[0]

    def before(self) -> str | None:
        """The one that was served before, None where nothing was."""
        return names[1] if len(names := self._read()) > 1 else None

    def set(self, name: str) -> None:
        """Switches every process that reads this file; the switch is atomic.

        Raises:
            NotWritten: the disk is full; the old one is served on.
            ValueError: ``name`` is no workflow's name.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no workflow's name: letters, digits and underscores, 64 at most")
        if (current := self.name()) == name:
            return
        write_text(self._path, f"{name}\n{current}\n")

    def _read(self) -> list[str]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen, self._names = None, [WORKFLOW]
            return self._names
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen != self._seen:
            self._seen = seen
            names = self._path.read_text().split()
            if names and all(NAME.fullmatch(name) for name in names):
                self._names = names
            else:
                logger.error("%s holds no workflow's name; films go on to %s", self._path, self._names[0])
        return self._names
