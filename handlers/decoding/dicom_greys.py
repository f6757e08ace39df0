"""A DICOM film's samples to grey: padding, modality, values of interest (PS3.3, C.7.5 and C.11; PS3.4, N.2)."""

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing

from handlers.decoding.blank import BLANK_SHARE, share_of_three_shades
from handlers.decoding.dicom_header import Header
from handlers.decoding.dicom_layout import Layout, Samples, corrected_layout, seen_codes, stored_values
from handlers.refusals import RefusedFilm

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
MIN_LEVELS = 65
"""Of 256 greys: a film that its file's window or table puts into no more is refused. A window of 16 bits shows
values of 12 in 17, of 14 in 65. Of 3,087 NIH films the one of lowest contrast has 95 (in 99.8% of its pixels)."""
OUTLIER_SHARE = 0.001
"""The share of a film's pixels at each end that may be hot or dead ones, letters, or metal."""
INNER_RANGE, INNER_VALUES = 1 / 8, 16
"""Values at an end are outliers where the others cover less than this share of the range, and are at least so many."""
SAMPLED_SIDE = 256
"""A film's values are counted in at most twice as many pixels a side; in all of them where these show nothing."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """A lookup table (PS3.3, C.11.1.1.1): what ``first`` and the values after it become.

    pydicom's ``apply_voi_lut`` and ``apply_modality_lut`` take the declared bits at their word: they raise on
    entries beyond them and, the latter, on all but 8 and 16 bits.
    """

    entries: NDArray[np.uint16]
    first: int
    bits: int

    def look_up(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values before the first become what that does, those after the last likewise."""
        indices = np.clip(values.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[indices].astype(np.float64)

    def white(self) -> int:
        """The entry that is white: the largest of the declared bits.

        Some writers declare the bits of the storage (Agfa: 16, of entries up to 4095). So where entries exceed the
        declared range, or leave its upper half empty, the largest entry is white, as in Horos and Cornerstone
        (dicom-rs, pull request 825).
        """
        largest, declared = int(self.entries.max()), 2**self.bits - 1
        if 8 <= self.bits <= 16 and declared // 2 < largest <= declared:
            return declared
        logger.warning("the LUTDescriptor of VOILUTSequence says other bits than its LUTData has: its largest is white")
        return max(largest, 1)


def grey_film(samples: Samples, layout: Layout, header: Header) -> NDArray[np.uint8]:
    """[H, W] uint8, dense structures bright, of the samples [H, W] of a grey film. Padding is black.

    Raises:
        RefusedFilm: BlankImage, and what makes the film so; UnreadableImage, and the element that cannot be read.
    """
    if layout.signed and layout.stored > samples.dtype.itemsize * 8:
        samples = samples.astype(np.uint16)
    bits = samples.dtype.itemsize * 8
    padding = _padding(header, layout.signed, bits)
    padded = _between(stored_values(replace(layout, stored=bits), 2**bits), padding)
    layout = corrected_layout(samples, layout, padded, header.overlay_bits())
    values = stored_values(layout, 2**bits)
    padded |= _between(values, padding)
    with np.errstate(all="ignore"):  # hostile numbers end as such, and are refused
        greys = _greys(samples, values, padded, layout, header)
    film = np.empty(samples.shape, np.uint8)
    for top in range(0, len(film), 64):  # numpy widens an index to 64 bit: by parts, it stays in the cache
        np.take(greys, samples[top : top + 64], out=film[top : top + 64], mode="clip")
    return film


def _padding(header: Header, signed: bool, bits: int) -> tuple[int, int] | None:
    """The lowest and the highest stored value that is padding and no picture (PS3.3, C.7.5.1.1.2)."""
    value, limit = header.integer("PixelPaddingValue"), header.integer("PixelPaddingRangeLimit")
    if value is None:
        return None
    ends = [value, value if limit is None else limit]
    if signed:  # a file may give the same bits as US or SS
        ends = [end - 2**bits if end >= 2 ** (bits - 1) else end for end in ends]
    else:
        ends = [end + 2**bits if end < 0 else end for end in ends]
    return min(ends), max(ends)


def _between(values: NDArray[np.int32], ends: tuple[int, int] | None) -> NDArray[np.bool_]:
    return np.zeros(len(values), bool) if ends is None else (values >= ends[0]) & (values <= ends[1])


def _greys(
    samples: Samples, stored: NDArray[np.int32], padded: NDArray[np.bool_], layout: Layout, header: Header
) -> NDArray[np.uint8]:
    """[codes] uint8: the grey of each code that a sample may be, by table, by window, or by the range of the film.

    Args:
        stored: [codes] the value of each code.
        padded: [codes] whether it is padding.
    """
    values, modality = _modality(stored.astype(np.float64), header)
    window = _window(header)
    table = _voi_table(values, header, window)
    views = dict[str, NDArray[np.float64]]()
    if table:
        views["VOILUTSequence"] = np.clip(table.look_up(values) / table.white(), 0.0, 1.0)
    if window:
        views["window (WindowCenter, WindowWidth)"] = apply_windowing(values, window)
    if not views:
        counts = _counts(samples, len(values)) + seen_codes(samples, len(values))
        low, high = _range(values, np.where(padded, 0, counts))
        views["range of values"] = np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0)
    why = ""
    for view, grey in views.items():
        if why:
            logger.warning("the DICOM film shows nothing: %s. The window beside it is used", why)
        if not np.isfinite(grey).all():
            raise RefusedFilm("UnreadableImage", f"the DICOM file's {view} makes no picture")
        grey = 1.0 - grey if layout.interpretation == "MONOCHROME1" else grey
        greys = np.where(padded, 0, np.rint(grey * 255.0)).astype(np.uint8)
        why = _why_blank(samples, values, greys, padded, (modality, view))
        if not why:
            return greys
    raise RefusedFilm("BlankImage", f"the DICOM film shows nothing: {why}")


def _modality(values: NDArray[np.float64], header: Header) -> tuple[NDArray[np.float64], str]:
    """Stored values to the modality's, by its table or by rescale slope and intercept (PS3.3, C.11.1), and by which."""
    item = header.item("ModalityLUTSequence")
    if item:
        return _table(item, values, "ModalityLUTSequence").look_up(values), "ModalityLUTSequence"
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    if slope == 0.0:
        raise RefusedFilm("BlankImage", "the DICOM element RescaleSlope is 0: it makes every pixel the same")
    if slope is None and intercept is None:
        return values, ""
    values = values * (1.0 if slope is None else slope)
    values += intercept or 0.0
    if not np.isfinite(values).all():
        raise RefusedFilm("UnreadableImage", "the DICOM elements RescaleSlope and RescaleIntercept make no numbers")
    return values, "RescaleSlope and RescaleIntercept"


def _table(item: Header, values: NDArray[np.float64], name: str) -> Table:
    """A sequence's table; ``values`` are all that may be looked up.

    Raises:
        RefusedFilm: UnreadableImage where its data are not as many as its descriptor says, one more or less apart.
    """
    descriptor, entries = item.words("LUTDescriptor"), item.words("LUTData")
    if len(descriptor) != 3:
        raise RefusedFilm("UnreadableImage", f"the LUTDescriptor of {name} has not three values")
    number, first, bits = int(descriptor[0]) or 2**16, int(descriptor[1]), int(descriptor[2])
    if bits <= 8 and abs(len(entries) - number) > 1:  # entries of 8 bit, two to a word
        entries = entries.astype("<u2").view(np.uint8).astype(np.uint16)
    if len(entries) == 0 or abs(len(entries) - number) > 1:
        said = f"holds {len(entries)} entries, where its LUTDescriptor says {number}"
        raise RefusedFilm("UnreadableImage", f"the LUTData of {name} {said}")
    if first >= 2**15 and (values.min() < 0 or values.max() < first):  # a signed number (PS3.3, C.11.2.1.1)
        first -= 2**16
    return Table(entries[:number], first, bits)


def _voi_table(values: NDArray[np.float64], header: Header, window: Dataset | None) -> Table | None:
    """The first table, unless it is broken and there is a window.

    Raises:
        RefusedFilm: UnreadableImage where it is broken, and there is none.
    """
    try:
        item = header.item("VOILUTSequence")
        return _table(item, values, "VOILUTSequence") if item else None
    except RefusedFilm as fault:
        if window is None:
            raise
        logger.warning("%s: the window beside it is used", fault.message)
        return None


def _window(header: Header) -> Dataset | None:
    """The first window that can be read, as pydicom takes it to make greys in [0, 1]; None without one.

    It is optional, so one that means nothing is left out.
    """
    function = header.text("VOILUTFunction").upper() or "LINEAR"
    if function not in FUNCTIONS:
        logger.warning("the DICOM element VOILUTFunction is none of %s: LINEAR is used", ", ".join(FUNCTIONS))
        function = "LINEAR"
    centers, widths = header.numbers("WindowCenter"), header.numbers("WindowWidth")
    for center, width in zip(centers, widths, strict=False):
        if center is not None and width is not None and (width >= 1.0 if function == "LINEAR" else width > 0.0):
            window = Dataset()
            window.WindowCenter, window.WindowWidth, window.VOILUTFunction = center, width, function
            window.PhotometricInterpretation, window.PixelRepresentation = "MONOCHROME2", 0
            window.BitsStored = 1  # from which pydicom takes the range of what it returns
            return window
    if centers or widths:
        wrong = "WindowWidth" if None not in centers[:1] and centers else "WindowCenter"
        logger.warning("the DICOM element %s cannot be read or means nothing: the film's own range is shown", wrong)
    return None


def _counts(samples: Samples, number: int, step: int = 0) -> NDArray[np.int64]:
    """[number] how many pixels have each code, of each ``step``-th in both directions, or of ``SAMPLED_SIDE``."""
    step = step or max(1, min(samples.shape) // SAMPLED_SIDE)
    return np.bincount(samples[::step, ::step].ravel(), minlength=number)


def _range(values: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[float, float]:
    """The lowest and the highest of a film's values, of which there are ``counts``; (0, 0) where there are none.

    Set aside are those of few pixels, or a single one as of a border that the file does not declare, where they are far
    off all others.
    """
    shown = counts > 0
    order = np.argsort(values[shown], kind="stable")
    values, counts = values[shown][order], counts[shown][order]
    if not len(values):
        return 0.0, 0.0
    up_to = np.cumsum(counts) / counts.sum()
    inner = values[(up_to > OUTLIER_SHARE) & (up_to - counts / counts.sum() < 1 - OUTLIER_SHARE)]
    for others in (inner, values[:-1], values[1:]):
        if len(others) >= INNER_VALUES and others[-1] - others[0] < INNER_RANGE * (values[-1] - values[0]):
            return float(others[0]), float(others[-1])
    return float(values[0]), float(values[-1])


def _why_blank(
    samples: Samples,
    values: NDArray[np.float64],
    greys: NDArray[np.uint8],
    padded: NDArray[np.bool_],
    elements: tuple[str, str],
) -> str:
    """What makes a film nearly one shade; "" where it is not.

    Args:
        elements: what made the values of those stored, "" where nothing did; and what made greys of the values.
    """
    of_some = _why_blank_by(_counts(samples, len(values)), values, greys, padded, elements)
    return of_some and _why_blank_by(_counts(samples, len(values), step=1), values, greys, padded, elements)


def _why_blank_by(
    counts: NDArray[np.int64],
    values: NDArray[np.float64],
    greys: NDArray[np.uint8],
    padded: NDArray[np.bool_],
    elements: tuple[str, str],
) -> str:
    """Likewise, by ``counts``, [codes]: how many pixels have each code."""
    modality, view = elements
    real = np.where(padded, 0, counts)
    shown = real > 0
    if not shown.any():
        return "every pixel is padding (PixelPaddingValue)"
    if shown.sum() == 1:
        return "every pixel that is no padding has the same value"
    if np.ptp(values[shown]) == 0.0:
        return f"every pixel is the same after {modality}"
    low, high = _range(values, real)
    levels = int(np.ptp(greys[shown & (values >= low) & (values <= high)])) + 1
    by = f"its {view}, after {modality}," if modality else f"its {view}"
    if levels <= MIN_LEVELS:
        return f"{by} puts every pixel into {levels} of 256 greys"
    if _share_of_three_shades(real, greys) > BLANK_SHARE:
        return f"{by} puts nearly every pixel into one of three shades of grey"
    if _share_of_three_shades(counts, greys) > BLANK_SHARE:
        return "nearly every pixel is padding (PixelPaddingValue)"
    return ""


def _share_of_three_shades(counts: NDArray[np.int64], greys: NDArray[np.uint8]) -> float:
    return share_of_three_shades(np.bincount(greys, weights=counts, minlength=256).astype(int).tolist())
