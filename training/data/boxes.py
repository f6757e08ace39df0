"""``BBox_List_2017.csv``: where radiologists saw a finding, for about a thousand of NIH's films."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handlers.findings import FINDINGS
from workflows.files.text_files import DataError, film_name, read_table

BOX_FILES = ("BBox_List_2017.csv", "BBox_List_2017_Official_NIH.csv")
"""NIH's name, and that of the same file beside Kaggle's 224-px copy."""
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
    path = next((folder / name for name in BOX_FILES if (folder / name).exists()), None)
    if path is None:
        raise DataError(f"{folder / BOX_FILES[0]} is not there: findings are localised where somebody drew boxes")
    table = read_table(path)
    if not table.rows:
        raise DataError(f"{path}: the table has no rows")
    return [_box(cells, f"{path} row {number}") for number, cells in zip(table.numbers, table.rows, strict=True)]


def _box(cells: list[str], where: str) -> FindingBox:
    # By position: the header's 'Bbox [x,y,w,h],,,' falls apart at its commas, and rows end with three or none.
    if len(cells) < 6 or not cells[0]:
        raise DataError(f"{where}: a film, a finding, x, y, w and h are wanted")
    image, finding, *numbers = cells[:6]
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
    return FindingBox(film_name(image), finding, x, y, width, height)
