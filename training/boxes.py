"""``BBox_List_2017.csv``: where radiologists saw a finding, for about a thousand of NIH's films."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from handlers.findings import FINDINGS
from training.data import DataError

BOX_FILE = "BBox_List_2017.csv"
FILM_SIDE = 1024
"""Boxes are in pixels of NIH's 1024-px film, whatever the size of the copy at hand."""

NAMES = {"Infiltrate": "Infiltration"}
"""What the box file calls otherwise than the film table."""


@dataclass(frozen=True)
class FindingBox:
    """A finding's rectangle on a film, in pixels of the 1024-px film; (``x``, ``y``) is its upper left corner."""

    image: str
    finding: str
    x: float
    y: float
    width: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        """x and y, in pixels of the 1024-px film."""
        return self.x + self.width / 2, self.y + self.height / 2

    def mask(self, side: int) -> NDArray[np.bool_]:
        """[side, side] bool: the pixels of a copy of that size whose middle is in the box."""
        middles = (np.arange(side) + 0.5) * FILM_SIDE / side
        rows = (self.y <= middles) & (middles <= self.y + self.height)
        columns = (self.x <= middles) & (middles <= self.x + self.width)
        return rows[:, None] & columns[None, :]


def read_boxes(folder: Path) -> list[FindingBox]:
    """The boxes of a data folder, in the file's order.

    Raises:
        DataError: no box file, a field that is no number, an unknown finding, or a box without area or off the film.
    """
    path = folder / BOX_FILE
    if not path.exists():
        raise DataError(f"{path} is not there: findings can be localised only where someone drew boxes")
    # By position: the header's 'Bbox [x,y,w,h],,,' falls apart at its commas, and rows end with three or none.
    table = pd.read_csv(path, header=0, index_col=False, usecols=list(range(6)), dtype=str, keep_default_na=False)
    rows = table.itertuples(index=False, name=None)
    return [_box(row, f"{path} row {number}") for number, row in enumerate(rows, start=2)]


def _box(row: tuple[str, ...], where: str) -> FindingBox:
    image, finding, *numbers = row
    finding = NAMES.get(finding, finding)
    if finding not in FINDINGS:
        raise DataError(f"{where}: unknown finding {finding!r}; the known ones are {', '.join(FINDINGS)}")
    try:
        x, y, width, height = map(float, numbers)
    except ValueError as fault:
        raise DataError(f"{where}: x, y, w, h are {numbers}, not four numbers") from fault
    inside = 0 <= x < x + width <= FILM_SIDE and 0 <= y < y + height <= FILM_SIDE
    if not inside:
        raise DataError(f"{where}: the box {numbers} is not within the film's {FILM_SIDE} by {FILM_SIDE} pixels")
    return FindingBox(image, finding, x, y, width, height)
