"""The pair of models that is served: what tells it from others, and the validation films that its archives know."""

import json
import logging
import zipfile

from pydantic import TypeAdapter, ValidationError

from handlers.histograms import Histograms
from handlers.metadata import METADATA_FILE
from workflows.active import Active
from workflows.server import Server
from workflows.store import archives_of, pair_id
from workflows.sums import SUMS_FILE, read_sums

_HISTOGRAMS: TypeAdapter[dict[str, list[int]]] = TypeAdapter(Histograms)

logger = logging.getLogger(__name__)


class ServedPair:
    """Read anew when the live store has changed.

    Args:
        server: with the store.
        active: the workflow that is served.
    """

    def __init__(self, server: Server, active: Active) -> None:
        self._store, self._active = server.store, active
        self._seen: tuple[int, int, int] | None = None
        self._sums: dict[str, str] = {}
        self._reference: tuple[str, dict[str, list[int]]] = "", {}

    def id(self, workflow: str | None = None) -> str:
        """``workflows.store.pair_id`` of a workflow, the served one unless told."""
        try:
            status = (self._store / SUMS_FILE).stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                self._seen, self._sums = seen, read_sums(self._store)
        except OSError:
            self._seen, self._sums = None, {}
        return pair_id(self._sums, workflow or self._active.name())

    def reference(self) -> dict[str, list[int]]:
        """The histograms of the served archives; empty where they were made without."""
        pair = self.id()
        if pair != self._reference[0]:
            self._reference = pair, self._read_reference()
        return self._reference[1]

    def _read_reference(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for name in archives_of(self._active.name())[:2]:
            try:
                with zipfile.ZipFile(self._store / name) as archive:
                    found |= _HISTOGRAMS.validate_python(json.loads(archive.read(METADATA_FILE)).get("reference", {}))
            except (OSError, KeyError, ValueError, zipfile.BadZipFile, ValidationError) as fault:
                said = f"{name}: no histograms can be read in it ({type(fault).__name__})"
                logger.warning(said, extra={"event": "no_reference"})
        return found
