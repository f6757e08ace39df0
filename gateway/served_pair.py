"""The pair of models that is served: what tells it from others, and the validation films that its archives know."""

import json
import logging
import zipfile
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from handlers.histograms import Histograms
from handlers.metadata import METADATA_FILE
from workflows.active import Active
from workflows.server import Server
from workflows.store import archives_of, pair_id
from workflows.sums import SUMS_FILE, read_sums

_HISTOGRAMS: TypeAdapter[dict[str, list[int]]] = TypeAdapter(Histograms)


class Reference(NamedTuple):
    """The validation films of a pair, as ``handlers.metadata`` has them."""

    histograms: dict[str, list[int]]
    design_effects: dict[str, float]


NOTHING = Reference({}, {})

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
        self._known: tuple[str, Reference] = "", NOTHING

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

    def reference(self) -> Reference:
        """Of the served archives; ``NOTHING`` where they were made without."""
        pair = self.id()
        if pair != self._known[0]:
            self._known = pair, self._read_reference()
        return self._known[1]

    def _read_reference(self) -> Reference:
        histograms: dict[str, list[int]] = {}
        effects: dict[str, float] = {}
        for name in archives_of(self._active.name())[:2]:
            try:
                with zipfile.ZipFile(self._store / name) as archive:
                    metadata = json.loads(archive.read(METADATA_FILE))
                histograms |= _HISTOGRAMS.validate_python(metadata.get("reference", {}))
                effects |= metadata.get("design_effects", {})
            except (OSError, KeyError, ValueError, zipfile.BadZipFile, ValidationError) as fault:
                said = f"{name}: no histograms can be read in it ({type(fault).__name__})"
                logger.warning(said, extra={"event": "no_reference"})
        return Reference(histograms, effects)
