"""How a DICOM film's samples are stored: what its header says, and what the samples themselves show."""

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from handlers.decoding.dicom_header import Header
from handlers.refusals import RefusedFilm, check_size

Samples = NDArray[np.uint8 | np.uint16]

GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
"""What a secondary capture of a grey picture may be in (PS3.3, C.7.6.3.1.2)."""
UNREAD = ("PALETTE COLOR", "ARGB", "CMYK", "HSV", "YBR_PARTIAL_420", "YBR_PARTIAL_422", "XYB")
SHAPES = {"IDENTITY": "MONOCHROME2", "INVERSE": "MONOCHROME1"}
"""Presentation LUT Shape says the same again in a DX object (PS3.3, C.8.11.1). Where the two differ, Photometric
Interpretation counts, as in most viewers."""
SIGN_JUMPS = 4
"""A jump is a pixel further from the next of its row than half of the range; a wrong sign makes one wherever values
pass half of the range, or zero. Pixel Representation is wrong where the other sign has so many times fewer."""
ROWS, FEW_ROWS = 256, 16
"""Of a film at most twice as many are compared; of the few, to see whether that is needed."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """How samples are stored (PS3.5, 8.1.1): in the lowest ``stored`` bits of ``allocated``.

    Attributes:
        interpretation: one of ``GREY`` or ``COLOUR``.
        planar: colours lie in planes, not pixel by pixel.
    """

    rows: int
    columns: int
    interpretation: str
    planar: bool
    allocated: int
    stored: int
    signed: bool

    @property
    def channels(self) -> int:
        return 1 if self.interpretation in GREY else 3


def layout_of(header: Header) -> Layout:
    """What the header says. Attributes that de-identification has taken away follow from others where they can.

    Raises:
        RefusedFilm: NotARadiograph, ImageTooLarge or UnreadableImage, and the element that is missing or wrong.
    """
    interpretation = _interpretation(header)
    rows, columns = _needed(header, "Rows"), _needed(header, "Columns")
    check_size(rows, columns)
    allocated, stored, high = (header.integer(name) for name in ("BitsAllocated", "BitsStored", "HighBit"))
    stored = (
        allocated if stored is None and high is None else high + 1 if stored is None and high is not None else stored
    )
    if stored is None:
        raise RefusedFilm("UnreadableImage", "the DICOM elements BitsAllocated and BitsStored are missing")
    allocated = (8 if stored <= 8 else 16) if allocated is None else allocated
    high = stored - 1 if high is None else high
    if allocated not in (8, 16) or not 2 <= stored <= allocated or high != stored - 1:
        said = f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}"
        raise RefusedFilm("UnreadableImage", f"{said}: read are the lowest 2 to 16 bits of 8 or 16")
    sign, planar = (_zero_or_one(header, name) for name in ("PixelRepresentation", "PlanarConfiguration"))
    layout = Layout(rows, columns, interpretation, planar, allocated, stored, sign)
    if layout.channels == 3 and (stored != 8 or allocated != 8):
        raise RefusedFilm("NotARadiograph", f"the DICOM image is in colour of {stored} bit ({interpretation})")
    return layout


def _needed(header: Header, name: str) -> int:
    value = header.integer(name)
    if value is None:
        raise RefusedFilm("UnreadableImage", f"the DICOM element {name} is missing")
    return value


def _zero_or_one(header: Header, name: str) -> bool:
    value = header.integer(name) or 0
    if value not in (0, 1):
        raise RefusedFilm("UnreadableImage", f"the DICOM element {name} is neither 0 nor 1")
    return value == 1


def _interpretation(header: Header) -> str:
    said = header.text("PhotometricInterpretation").upper()
    said = said or SHAPES.get(header.text("PresentationLUTShape").upper(), "")
    if not said:
        lacking = "the DICOM element PhotometricInterpretation is missing: it says whether low values are dark"
        raise RefusedFilm("UnreadableImage", lacking)
    if said not in (*GREY, *COLOUR):
        name = said if said in UNREAD else "of no known name"
        raise RefusedFilm(
            "NotARadiograph", f"PhotometricInterpretation {name}: a radiograph is MONOCHROME1 or MONOCHROME2"
        )
    channels = 1 if said in GREY else 3
    if (header.integer("SamplesPerPixel") or channels) != channels:
        raise RefusedFilm("NotARadiograph", f"the DICOM element SamplesPerPixel is not {channels}, as {said} has it")
    return said


def stored_values(layout: Layout, number: int) -> NDArray[np.int32]:
    """[number] the value of each code that a sample may be: its lowest ``stored`` bits, signed or not."""
    values = np.arange(number, dtype=np.int32) & (2**layout.stored - 1)
    if layout.signed:
        values[values >= 2 ** (layout.stored - 1)] -= 2**layout.stored
    return values


def seen_codes(samples: Samples, number: int) -> NDArray[np.bool_]:
    """[number] which codes occur."""
    seen = np.zeros(number, bool)
    seen[samples] = True
    return seen


def corrected_layout(samples: Samples, layout: Layout, padded: NDArray[np.bool_], overlays: int) -> Layout:
    """``layout``, or what it must be where samples do not fit it.

    Bits above ``stored`` are no part of a value where they repeat its sign, are the same in every sample, or where an
    overlay plane says that they are its own. Otherwise Bits Stored is too small, if neighbours are closer with them.

    Args:
        padded: [codes] those that are padding.
        overlays: a mask of the bits that overlay planes take.

    Raises:
        RefusedFilm: UnreadableImage where it cannot be told whether bits above ``stored`` are picture.
    """
    if _fits(samples, layout):
        return layout
    codes = np.flatnonzero(seen_codes(samples, len(padded)) & ~padded)
    above = (codes & ~overlays) >> layout.stored
    signs = (codes >> (layout.stored - 1) & 1) * ((len(padded) - 1 & ~overlays) >> layout.stored)
    if len(np.unique(above)) > 1 and ((above != 0) & (above != signs)).any():
        whole = replace(layout, stored=len(padded).bit_length() - 1)
        if _steps(samples, whole, padded).mean() >= _steps(samples, layout, padded).mean():
            said = f"BitsStored says {layout.stored} bits, but samples differ in bits above, which no overlay claims"
            raise RefusedFilm("UnreadableImage", f"the DICOM element {said}")
        said = "the DICOM element BitsStored (%d) is too small for the samples: all bits are read"
        logger.warning(said, layout.stored)
        layout = whole
    other, excluded = replace(layout, signed=not layout.signed), padded.copy()
    excluded[codes[:1]] = excluded[codes[-1:]] = True  # a border's: its jumps are no anatomy's
    half = 2 ** (layout.stored - 1)
    jumps, with_other = (int((_steps(samples, one, excluded) > half).sum()) for one in (layout, other))
    repeated = other.signed and bool(above.any() and (above == signs).all())  # which nothing but a sign explains
    if jumps <= with_other or not (repeated or jumps > max(SIGN_JUMPS * with_other, min(ROWS, len(samples)) // 2)):
        return layout
    if other.signed and not repeated:  # white beside black jumps as well
        said = "says unsigned, but neighbours are closer to each other if samples are signed"
        raise RefusedFilm("UnreadableImage", f"the DICOM element PixelRepresentation {said}")
    logger.warning("the DICOM element PixelRepresentation is wrong: samples are read with the other sign")
    return other


def _fits(samples: Samples, layout: Layout) -> bool:
    """Whether each sample is a value as the layout says it, and few neighbours jump, as a wrong sign makes them."""
    bits = samples.dtype.itemsize * 8
    values = samples.view(f"i{samples.dtype.itemsize}") if layout.signed else samples
    half = 2 ** (layout.stored - 1)
    low, high = (-half, half) if layout.signed else (0, 2 * half)
    if layout.stored < bits and not (low <= int(values.min()) and int(values.max()) < high):
        return False
    if layout.signed and layout.stored < bits:
        return True  # the bits above repeat the sign
    rows = values[:: max(1, len(values) // FEW_ROWS)].astype(np.int32)
    jumps = np.abs(np.diff(rows, axis=1)) > half
    return int(jumps.sum()) <= len(rows) // 2


def _steps(samples: Samples, layout: Layout, excluded: NDArray[np.bool_]) -> NDArray[np.int32]:
    """How far pixels are from the next of their row, but for codes that are excluded."""
    rows = samples[:: max(1, len(samples) // ROWS)]
    values, real = stored_values(layout, len(excluded))[rows], ~excluded[rows]
    steps = np.abs(np.diff(values, axis=1))[real[:, 1:] & real[:, :-1]]
    return steps if steps.size else np.zeros(1, np.int32)
