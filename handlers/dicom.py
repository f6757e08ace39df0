"""DICOM radiographs: bytes to grey."""

import logging
import re
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from handlers.frames import COMPRESSED, Samples, decode_frame
from handlers.refused import MAX_PIXELS, RefusedFilm, check_frames, check_size

# pydicom's warnings quote the values that they warn of.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module="pydicom")

MAX_HEADER = 2 * 2**20
"""Bytes before the pixels: parsing costs microseconds an element, and an element can be 8 bytes."""
MAX_READS = 20_000
"""Of the parser, before the pixels: one or two an element, of which a radiograph has some hundreds. Two megabytes of
the smallest elements would take it seconds, in which no other film of the batch is decoded."""
MAX_FRAGMENTS = 10_000
"""Of the one frame, its offset table included; 64 MB in the smallest fragments that are seen."""
UNCOMPRESSED = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
)
MODALITIES = ("CR", "DX", "RG")
"""Computed and digital radiography, and digitised film (PS3.3, C.7.3.1.1.1)."""
RADIOGRAPHS = (uid.ComputedRadiographyImageStorage, uid.DigitalXRayImageStorageForPresentation)
RAW = uid.DigitalXRayImageStorageForProcessing
_PIXEL_DATA = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True)
class Element:
    """Where the pixel data lie."""

    start: int
    length: int
    vr: str | None


@dataclass(frozen=True)
class Layout:
    """How samples are stored (PS3.5, 8.1.1): in the lowest ``stored`` bits of ``allocated``."""

    rows: int
    columns: int
    allocated: int
    stored: int
    signed: bool


class Header(BytesIO):
    """Bytes that are read ``MAX_READS`` times at most."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Raises RefusedFilm: UnreadableImage."""
        self._left -= 1
        if self._left < 0:
            raise RefusedFilm("UnreadableImage", "the DICOM header has more elements than any radiograph's")
        return super().read(size)


def read_dicom(data: bytes) -> NDArray[np.uint8]:
    """[H, W] uint8 of a file that begins as PS3.10 wants it; dense structures bright.

    Read are the modalities CR, DX and RG, as CR or DX (for presentation) objects or as secondary captures of them. A DX
    object for processing is refused: its raw detector values are no picture until the vendor's processing.

    Raises:
        RefusedFilm: what cannot be read, and why. A decoder may raise anything else on hostile bytes.
    """
    syntax, body, start = _open(data)
    header, element = _header(body, start, syntax)
    _check_radiograph(header)
    layout = _layout(header)
    samples = _samples(body, element, syntax, layout)
    index = _index(samples, layout)
    with np.errstate(all="ignore"):  # hostile numbers end as such, and are refused
        shades = _shades(header, layout, index)
    film = np.empty(index.shape, np.uint8)
    for top in range(0, layout.rows, 64):  # numpy widens an index to 64 bit: by parts, it stays in the cache
        np.take(shades, index[top : top + 64], out=film[top : top + 64], mode="clip")
    return film


def _open(data: bytes) -> tuple[uid.UID, bytes, int]:
    """The transfer syntax, and where the data set starts in which bytes: the file's own, or those that it deflates."""
    stream = Header(data[:MAX_HEADER])
    stream.seek(132)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    if not meta.get("TransferSyntaxUID"):
        raise RefusedFilm("UnreadableImage", "the DICOM file names no transfer syntax")
    syntax = uid.UID(meta.TransferSyntaxUID)
    if syntax not in (*UNCOMPRESSED, *COMPRESSED):
        name = syntax.name if syntax.is_valid else "an invalid name"
        raise RefusedFilm("UnsupportedTransferSyntax", f"DICOM transfer syntax {name} is not read")
    if syntax != uid.DeflatedExplicitVRLittleEndian:
        return syntax, data, stream.tell()
    inflater, limit = zlib.decompressobj(-zlib.MAX_WBITS), MAX_HEADER + 2 * MAX_PIXELS
    body = inflater.decompress(data[stream.tell() :], limit + 1)
    if len(body) > limit:
        raise RefusedFilm("ImageTooLarge", f"the deflated DICOM file holds more than {limit} bytes")
    if not inflater.eof:
        raise RefusedFilm("TruncatedImage", "the deflated DICOM file is cut short")
    return syntax, body, 0


def _header(body: bytes, start: int, syntax: uid.UID) -> tuple[Dataset, Element]:
    """Every element before the pixel data, and where those lie."""
    stream, found = Header(body[: start + MAX_HEADER]), list[Element]()
    stream.seek(start)

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag == _PIXEL_DATA:
            found.append(Element(stream.tell(), length, vr))
        return tag == _PIXEL_DATA

    header = read_dataset(stream, syntax.is_implicit_VR, syntax.is_little_endian, stop_when=at_pixels)
    if not found:
        raise RefusedFilm("UnreadableImage", f"no pixel data in the DICOM file's first {MAX_HEADER // 2**20} MB")
    return header, found[-1]


def _check_radiograph(header: Dataset) -> None:
    modality, kind = str(header.get("Modality") or ""), header.get("SOPClassUID")
    if kind == RAW:
        raise RefusedFilm("NotARadiograph", "a DX image for processing: send the one for presentation")
    if modality and modality not in MODALITIES:
        name = modality if re.fullmatch("[A-Z]{2,8}", modality) else "of no known name"
        raise RefusedFilm("NotARadiograph", f"DICOM modality {name}: only {', '.join(MODALITIES)} are read")
    if kind not in RADIOGRAPHS and not (modality and kind in (None, uid.SecondaryCaptureImageStorage)):
        raise RefusedFilm(
            "NotARadiograph", "the DICOM object is of another kind than CR, DX or their secondary capture"
        )
    check_frames(int(header.get("NumberOfFrames") or 1))
    if header.get("SamplesPerPixel", 1) != 1 or header.get("PhotometricInterpretation") not in (
        "MONOCHROME1",
        "MONOCHROME2",
    ):
        raise RefusedFilm("NotARadiograph", "the DICOM image is in colour: a radiograph is MONOCHROME1 or MONOCHROME2")


def _layout(header: Dataset) -> Layout:
    rows, columns = int(header.Rows), int(header.Columns)
    check_size(rows, columns)
    allocated, stored = int(header.BitsAllocated), int(header.BitsStored)
    high = int(header.get("HighBit", stored - 1))
    if allocated not in (8, 16) or not 2 <= stored <= allocated or high != stored - 1:
        said = f"{stored} bits up to bit {high} of {allocated}"
        raise RefusedFilm("UnreadableImage", f"{said}: read are the lowest 2 to 16 bits of 8 or 16")
    return Layout(rows, columns, allocated, stored, bool(header.get("PixelRepresentation", 0)))


def _samples(body: bytes, element: Element, syntax: uid.UID, layout: Layout) -> Samples:
    if syntax in COMPRESSED:
        if element.length != _UNDEFINED:
            raise RefusedFilm("UnreadableImage", f"{syntax.name}, but the DICOM pixel data are not in fragments")
        return decode_frame(_frame(body, element), syntax, layout.rows, layout.columns, layout.allocated)
    number, width = layout.rows * layout.columns, layout.allocated // 8
    if min(element.length, len(body) - element.start) < number * width:
        raise RefusedFilm("TruncatedImage", f"the DICOM pixel data are cut short: {number * width} bytes are wanted")
    if syntax.is_little_endian:
        stored = np.frombuffer(body, f"<u{width}", number, element.start)
    elif width == 2 or element.vr == "OB":
        stored = np.frombuffer(body, f">u{width}", number, element.start)
    else:  # bytes in 16-bit words, which big endian turns round (PS3.5, 8.1.2 and A.3)
        words = np.frombuffer(body, ">u2", -(-number // 2), element.start)
        stored = words.astype("<u2").view(np.uint8)[:number]
    return stored.reshape(layout.rows, layout.columns)


def _frame(body: bytes, element: Element) -> bytes:
    """The one frame's fragments, joined; the first item is the offset table (PS3.5, A.4)."""
    items, place = list[bytes](), element.start
    while body[place : place + 4] == b"\xfe\xff\x00\xe0" and len(items) < MAX_FRAGMENTS:
        end = place + 8 + int.from_bytes(body[place + 4 : place + 8], "little")
        items.append(body[place + 8 : end])
        place = end
    if body[place : place + 4] != b"\xfe\xff\xdd\xe0" or len(items) < 2:
        raise RefusedFilm("TruncatedImage", "the DICOM pixel data are cut short or damaged")
    return b"".join(items[1:])


def _index(samples: Samples, layout: Layout) -> Samples:
    """The stored bits alone (older files keep overlays above them): rows of a table of 2 to the power of ``stored``."""
    if layout.stored >= samples.dtype.itemsize * 8:
        return samples
    return samples & samples.dtype.type(2**layout.stored - 1)


def _shades(header: Dataset, layout: Layout, index: Samples) -> NDArray[np.uint8]:
    """[2 to the power of ``stored``] uint8: stored bits to grey, by the chain of PS3.3, C.11 and PS3.4, N.2."""
    values = np.arange(2**layout.stored, dtype=np.int32)
    if layout.signed:
        values[len(values) // 2 :] -= len(values)
    meant = np.asarray(apply_modality_lut(values, header), np.float64)
    grey = _window(meant, index, header)
    if not np.isfinite(grey).all():
        raise RefusedFilm("UnreadableImage", "the DICOM header's rescale or window makes no picture")
    if header.PhotometricInterpretation == "MONOCHROME1":
        grey = 1.0 - grey
    return np.rint(grey * 255.0).astype(np.uint8)


def _window(values: NDArray[np.float64], index: Samples, header: Dataset) -> NDArray[np.float64]:
    """Modality values to [0, 1] by VOI LUT, by window (PS3.3, C.11.2), or by the range of those on the film."""
    if header.get("VOILUTSequence"):
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        voi = np.asarray(apply_voi_lut(values.astype(np.int64), header, index=0), np.float64)
        return np.clip(voi / (2**bits - 1), 0.0, 1.0)
    center, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if center is None or width is None:
        seen = np.zeros(len(values), bool)
        seen[index] = True
        low, high = float(values[seen].min()), float(values[seen].max())
        return np.clip((values - low) / max(high - low, 1e-6), 0.0, 1.0)
    width, function = max(width, 1.0), header.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -500.0, 500.0)))
    if function == "LINEAR":
        center, width = center - 0.5, max(width - 1.0, 1e-6)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def _first(value: object) -> float | None:
    """A window may be one number or several; the first is the file's default view."""
    if isinstance(value, MultiValue):
        value = value[0] if value else None
    return None if value in (None, "") else float(value)  # type: ignore[arg-type]
