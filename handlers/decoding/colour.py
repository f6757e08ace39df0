"""Grey pictures that are stored in colour."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlers.refusals import RefusedFilm

COLOURED, COLOUR_SHARE = 32, 0.1
"""A picture is in colour where more than this share of its pixels have channels further apart than that. JPEG's own
error, a tinted film base and a coloured mark stay below."""


def grey_of(picture: Image.Image) -> NDArray[np.uint8]:
    """[H, W] uint8 of an opaque picture; its grey as it is, where its channels are the same.

    Raises:
        RefusedFilm: NotARadiograph for a photograph.
    """
    if picture.mode not in ("1", "L"):
        picture = picture.convert("RGB")
        _check_colour(picture)
    return np.asarray(picture if picture.mode == "L" else picture.convert("L"))


def _check_colour(picture: Image.Image) -> None:
    """By at most 256 x 256 of its pixels."""
    columns, rows = picture.size
    sample = picture.resize((min(columns, 256), min(rows, 256)), Image.Resampling.NEAREST)
    apart = np.ptp(np.asarray(sample), axis=2)
    if (share := (apart > COLOURED).mean()) > COLOUR_SHARE:
        raise RefusedFilm("NotARadiograph", f"a picture in colour ({share:.0%} of its pixels): a radiograph is grey")
