"""How many films each of a peer's batches held: four bytes a batch, appended to a file per stage."""

import os
import struct
from pathlib import Path

import numpy as np

FOLDER = "BENCHMARK_TALLY"
"""Environment variable: where the files lie."""


class Tally:
    """Counts one stage's batches; many processes may append to the same file."""

    def __init__(self, stage: str) -> None:
        path = Path(os.environ[FOLDER]) / stage
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def add(self, films: int) -> None:
        os.write(self._file, struct.pack("<I", films))


def read(folder: Path) -> dict[str, int]:
    """``STAGE_batches`` and ``STAGE_films`` of both stages, since the server started."""
    counts: dict[str, int] = {}
    for stage in ("binary", "disease"):
        path = folder / stage
        batches = np.fromfile(path, "<u4") if path.exists() else np.empty(0, np.uint32)
        counts |= {f"{stage}_batches": len(batches), f"{stage}_films": int(batches.sum())}
    return counts
