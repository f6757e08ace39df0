"""Whether a film shows anything."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlers.refusals import RefusedFilm

SHADES, GREYS = 3, 5
"""A shade is five neighbouring greys of 256, as noise and compression spread one value over some."""
BLANK_SHARE = 0.9
"""A film is blank where more than this share of its pixels have one of three shades. Of 15,083 NIH films the largest
share is 0.67, in one of very low contrast; 0.63, in one whose border is half of it. A film of good contrast comes near
0.9 only where it covers less than an eighth of its picture."""
FIELDS, NOISE_CONTRAST = 32, 0.3
"""A film is noise, too, where averaging over 32 x 32 fields leaves less than this of its contrast (the standard
deviation of its greys): nothing is larger than a pixel. Of 15,083 NIH films the least is 0.87; noise of 256 px a side
has 0.12. So a blank exposure is one, too, whose few values are stretched over all greys."""


def check_shows_something(film: NDArray[np.uint8]) -> None:
    """Raises RefusedFilm (BlankImage) where almost all of a film, [H, W], is of one shade, or of two or three, or
    where it is noise."""
    picture = Image.fromarray(film)
    counts = picture.histogram()
    if (share := share_of_three_shades(counts)) > BLANK_SHARE:
        said = f"{share:.1%} of the pixels have one of three shades of grey; of a radiograph, at most {BLANK_SHARE:.0%}"
        if max(counts) == film.size:
            said = f"every pixel has the same grey ({counts.index(film.size)} of 255)"
        raise RefusedFilm("BlankImage", f"the film shows nothing: {said}. Are its values scaled to the range of grey?")
    if (left := contrast_of_fields(picture, counts)) < NOISE_CONTRAST:
        said = f"averaged over {FIELDS} x {FIELDS} fields, {left:.0%} of their contrast is left"
        least = f"of a radiograph, at least {NOISE_CONTRAST:.0%}"
        raise RefusedFilm("BlankImage", f"the film shows nothing: its greys are noise; {said}; {least}")


def share_of_three_shades(counts: list[int]) -> float:
    """The largest share of pixels that three shades can hold, from how many there are of each of 256 greys."""
    up_to = np.concatenate(([0], np.cumsum(counts)))  # [257]: pixels darker than a grey
    below = np.maximum(np.arange(len(up_to)) - GREYS, 0)  # where a shade begins that ends there
    most = np.zeros_like(up_to)  # held by so many shades of the greys below each
    for _ in range(SHADES):
        most = np.maximum.accumulate(up_to - up_to[below] + most[below])
    return float(most[-1] / up_to[-1])


def contrast_of_fields(picture: Image.Image, counts: list[int]) -> float:
    """The standard deviation of the means of 32 x 32 fields, as a share of that of the greys, of which some differ."""
    fields = np.asarray(picture.resize((FIELDS, FIELDS), Image.Resampling.BOX))
    greys = np.arange(256)
    mean = np.average(greys, weights=counts)
    return float(fields.std() / np.sqrt(np.average((greys - mean) ** 2, weights=counts)))
