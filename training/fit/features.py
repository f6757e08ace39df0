"""What a frozen backbone makes of films, computed once for each film.

A cache folder belongs to one encoder (its weights, size, pooling and statistics) in one precision. ``rows.bin`` holds
features, ``index.txt`` a line per row: the sha256 of the film's pixels. Both only grow. A batch's rows are written
before its lines, so that a kill leaves whole rows; what has no line is cut off and computed again.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from handlers.networks.network import encoder_sha256
from handlers.networks.vit import Vit
from training.data.pixels import held
from workflows.files.atomic import naming, write_text
from workflows.files.text_files import DataError

ROWS, INDEX, ORIGIN = "rows.bin", "index.txt", "origin.json"
BATCH = 64
DIGITS = 64
"""Of a sha256 as text."""


def load_features(
    checkpoint: Path, vit: Vit, pixels: NDArray[np.uint8], rows: NDArray[np.int64], cache: Path, mirrored: bool = False
) -> NDArray[np.float32]:
    """[N, S, S] uint8 -> [len(rows), W] float32; only films that no earlier call has seen are computed.

    Args:
        checkpoint: folder of ``vit``.
        vit: computes them, as it does when it is served.
        pixels: of all films, memory-mapped: they need not fit into memory.
        rows: the films that are wanted, in this order.
        cache: folder of all caches.
        mirrored: their mirror images instead.

    Raises:
        DataError: the cache says that it is another encoder's.
        NotWritten: the disk is full; the rows that were finished stay.
    """
    origin = {"encoder": encoder_sha256(checkpoint), "precision": str(vit.dtype).removeprefix("torch.")}
    name = hashlib.sha256(json.dumps(origin).encode()).hexdigest()[:12]
    folder = cache / f"features-{name}"
    films = pixels[:, :, ::-1] if mirrored else pixels
    wanted = {row: hashlib.sha256(films[row].tobytes()).hexdigest() for row in rows.tolist()}
    with held(folder, "computes features"):
        _check_origin(folder, origin)
        known = _known(folder, vit.width)
        missing = [row for row, key in wanted.items() if key not in known]
        if missing:
            _compute(folder, vit, films, missing, wanted)
            known = _known(folder, vit.width)
    stored = np.memmap(folder / ROWS, np.float32, "r").reshape(-1, vit.width)
    return np.asarray(stored[[known[wanted[row]] for row in rows.tolist()]])


def _check_origin(folder: Path, origin: dict[str, str]) -> None:
    path = folder / ORIGIN
    if not path.exists():
        write_text(path, json.dumps(origin, indent=2))
    elif (found := json.loads(path.read_text())) != origin:
        raise DataError(f"{path}: these features are of {found}, not of {origin}. Delete the folder: it is a cache")


def _known(folder: Path, width: int) -> dict[str, int]:
    """The row of each film, by its pixels' hash; cuts off what a kill left without its other half."""
    rows, index = folder / ROWS, folder / INDEX
    for path in (rows, index):
        path.touch()
    whole = min(index.stat().st_size // (DIGITS + 1), rows.stat().st_size // (4 * width))
    os.truncate(rows, whole * 4 * width)
    os.truncate(index, whole * (DIGITS + 1))
    return {key: row for row, key in enumerate(index.read_text().split())}


def _compute(folder: Path, vit: Vit, films: NDArray[np.uint8], missing: list[int], wanted: dict[int, str]) -> None:
    with naming(folder), (folder / ROWS).open("ab") as features, (folder / INDEX).open("a") as index:
        for start in tqdm(range(0, len(missing), BATCH), "features", unit="batch", disable=None):
            rows = missing[start : start + BATCH]
            features.write(vit.features(films[rows], busy=True).tobytes())
            features.flush()
            index.write("".join(f"{wanted[row]}\n" for row in rows))
            index.flush()
