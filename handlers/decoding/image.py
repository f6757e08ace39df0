"""Bytes to pixels, for training and for serving: the only decoder in the project."""

import logging

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handlers.decoding import dicom
from handlers.decoding.blank import check_shows_something
from handlers.decoding.colour import grey_of
from handlers.decoding.containers import JPEG, PNG, Stored, is_dicom, other_kind
from handlers.decoding.jpeg import read_jpeg
from handlers.decoding.png import read_png
from handlers.refusals import MAX_BYTES, RefusedFilm

DETECTOR_BITS = (12, 14)
"""Of radiographs whose writer put the detector's values into 16 bits as they were: to a person such a picture is nearly
black. None of 15,083 NIH films has its brightest grey below 120 of 255, so one that ends at 63 is meant otherwise."""

logger = logging.getLogger(__name__)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its orientation."""


def read_film(data: bytes) -> NDArray[np.uint8]:
    """Decodes a PNG, JPEG or DICOM file.

    Transparency is not grey: a pixel keeps its stored grey, and is black where it is fully transparent.

    Returns:
        [H, W] uint8, dense structures bright (MONOCHROME2), windowed where the file says how.

    Raises:
        RefusedFilm: the file is empty, of another kind, damaged, no radiograph, blank, or too large to decode safely.
    """
    if not data:
        raise RefusedFilm("EmptyRequest", "no film: send the file's bytes as the body, or as form field 'data'")
    if len(data) > MAX_BYTES:
        raise RefusedFilm("ImageTooLarge", f"a file of {len(data)} bytes: a film has at most {MAX_BYTES}")
    kind = "DICOM" if is_dicom(data) else "PNG" if data.startswith(PNG) else "JPEG"
    try:
        film = dicom.read_dicom(data) if kind == "DICOM" else _grey(_stored(data))
    except RefusedFilm:
        raise
    except MemoryError as fault:
        raise RefusedFilm("ImageTooLarge", "decoding takes more memory than there is") from fault
    except Exception as fault:  # a decoder may raise anything on hostile bytes; its words may quote the file's
        logger.warning("a %s file broke its decoder: %s", kind, type(fault).__name__)
        raise RefusedFilm("UnreadableImage", f"the {kind} file is damaged: its decoder gives up on it") from fault
    check_shows_something(film)
    return film


def to_pixels(film: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """[H, W] uint8 -> [size, size] uint8, antialiased.

    The aspect ratio is not kept: NIH's 1024-px squares were made so from films of any shape.
    """
    resized = Image.fromarray(film).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.array(resized)


def _stored(data: bytes) -> Stored:
    if data.startswith(PNG):
        return read_png(data)
    if data.startswith(JPEG):
        return read_jpeg(data)
    if PNG.startswith(data) or JPEG.startswith(data):
        raise RefusedFilm("TruncatedImage", f"the file is cut short: it ends after {len(data)} bytes")
    raise RefusedFilm("UnreadableImage", f"not a PNG, JPEG or DICOM file, but {other_kind(data)}")


def _grey(stored: Stored) -> NDArray[np.uint8]:
    picture = stored.picture
    if stored.orientation in _TURNS:
        picture = picture.transpose(_TURNS[stored.orientation])
    if picture.mode.startswith("I"):
        return _grey_of_16_bit(np.asarray(picture, np.uint16), stored.significant_bits)
    if not picture.has_transparency_data:
        return grey_of(picture)
    picture = picture.convert("RGBA")
    alpha = picture.getchannel("A")
    lowest, highest = alpha.getextrema()
    if highest == 0:
        raise RefusedFilm("BlankImage", "the film shows nothing: every pixel is transparent")
    grey = grey_of(picture)
    return np.where(np.asarray(alpha) == 0, np.uint8(0), grey) if lowest == 0 else grey


def _grey_of_16_bit(values: NDArray[np.uint16], significant_bits: int) -> NDArray[np.uint8]:
    """[H, W] uint16 -> uint8, scaled from 16 bit or, where no value exceeds a detector's 12 or 14 bit, from those.

    What the file says itself (sBIT) comes first, where its values fit.
    """
    highest, bits = int(values.max()), 16
    if highest < 2 ** max(DETECTOR_BITS):
        if 8 <= significant_bits < 16 and highest < 2**significant_bits:
            bits = significant_bits
        elif highest >= 2 ** (min(DETECTOR_BITS) - 2):
            bits = next(bits for bits in DETECTOR_BITS if highest < 2**bits)
    if bits < 16:
        logger.warning(
            "a 16-bit PNG holds values of %d bit and is read so; to a viewer it is dark: scale them to 65535", bits
        )
    shades = np.minimum(np.arange(2**16) * 255 // (2**bits - 1), 255).astype(np.uint8)  # of 16 bit: 65535 / 257 = 255
    return np.take(shades, values, mode="clip")
