"""DICOM files: where the pixel data begin, and the few elements before them that reading a film takes."""

import logging
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom import config, uid
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator, read_sequence_item

from handlers.decoding.containers import DICOM
from handlers.refusals import MAX_BYTES, RefusedFilm

# pydicom's warnings quote the values that they warn of.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module="pydicom")

MAX_READS = 20_000
"""Of the parser, before the pixels: one or two an element, of which a radiograph has some hundreds. Megabytes of the
smallest elements would take it minutes, in which no other film of the batch is decoded. How long an element is does not
matter: what is not needed is passed over."""
MAX_TEXT = 1_000
"""Bytes of a value that are looked at; a window has 16 a view."""
MAX_INFLATED = 2 * MAX_BYTES
"""Bytes of a deflated data set: the largest film's pixels are 80 MB of them."""
UNDEFINED = 0xFFFFFFFF
"""The length of a value that an item says the end of (PS3.5, 7.1.1)."""

KIND = ("SOPClassUID", "Modality", "NumberOfFrames")
PIXELS = (
    *("Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
GREYS = (
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PresentationLUTShape"),
)
SLICES = ("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "SliceLocation", "SpacingBetweenSlices")
"""What a slice says of its place, and no projection has."""
OVERLAY_BITS = [0x60000102 + 0x20000 * plane for plane in range(16)]
"""Overlay Bit Position of each plane (PS3.3, C.9.2)."""
_TAGS = {name: int(tag_for_keyword(name) or 0) for name in (*KIND, *PIXELS, *GREYS, *SLICES)}
_META = {name: int(tag_for_keyword(name) or 0) for name in ("TransferSyntaxUID", "MediaStorageSOPClassUID")}
_LUT = {name: int(tag_for_keyword(name) or 0) for name in ("LUTDescriptor", "LUTData")}
_PIXEL_DATA, _FLOAT_PIXEL_DATA = 0x7FE00010, (0x7FE00008, 0x7FE00009)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
"""Decimal String and Integer String (PS3.5, 6.2)."""
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}


@dataclass(frozen=True)
class PixelData:
    """Where the pixel data begin; ``length`` may be ``UNDEFINED``."""

    start: int
    length: int
    vr: str | None


@dataclass(frozen=True)
class DicomFile:
    """A file, taken apart.

    Attributes:
        body: the file's bytes, or those that it deflates.
        syntax: its transfer syntax; None where the file does not say and is not compressed.
        storage_class: what the file meta information says that it is; "" where it does not.
    """

    body: bytes
    syntax: uid.UID | None
    storage_class: str
    header: "Header"
    pixels: PixelData | None


class Limited(BytesIO):
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


class Header:
    """Elements by their keywords. What a value is, its bytes say: a decoder of values would stop at the first bad one.

    An element without a value is as good as none: de-identification empties what it may not leave out.
    """

    def __init__(self, elements: dict[int, RawDataElement | DataElement]) -> None:
        self._elements = elements

    def bytes_of(self, name: str) -> bytes:
        """The element's value; b"" where there is none, or a sequence in its place."""
        element = self._elements.get(_TAGS.get(name) or _META.get(name) or _LUT[name])
        return _bytes(element)

    def text(self, name: str) -> str:
        return self.bytes_of(name)[:MAX_TEXT].decode("latin-1").strip("\0 \t\r\n")

    def numbers(self, name: str) -> list[float | None]:
        """Its values; None for one that is no number. An empty list where the element is absent or empty."""
        return _numbers(self._elements.get(_TAGS[name]))

    def number(self, name: str) -> float | None:
        """The one value; None where the element is absent or empty.

        Raises:
            RefusedFilm: UnreadableImage, and its name, where it is no number or several.
        """
        numbers = self.numbers(name)
        if None in numbers:
            raise RefusedFilm("UnreadableImage", f"the DICOM element {name} is no number")
        if len(set(numbers)) > 1:
            raise RefusedFilm("UnreadableImage", f"the DICOM element {name} has several values")
        return numbers[0] if numbers else None

    def integer(self, name: str) -> int | None:
        """Likewise, and a whole number."""
        number = self.number(name)
        if number is not None and not number.is_integer():
            raise RefusedFilm("UnreadableImage", f"the DICOM element {name} is no whole number")
        return None if number is None else int(number)

    def words(self, name: str) -> NDArray[np.uint16]:
        """Its bytes as 16-bit words, whatever its value representation."""
        element = self._elements.get(_LUT[name])
        little = not isinstance(element, RawDataElement) or element.is_little_endian
        data = _bytes(element)
        return np.frombuffer(data, "<u2" if little else ">u2", len(data) // 2).astype(np.uint16)

    def item(self, name: str) -> "Header | None":
        """A sequence's first item; None where there is none.

        Raises:
            RefusedFilm: UnreadableImage, and the sequence's name, where it cannot be parsed.
        """
        element = self._elements.get(_TAGS[name])
        try:
            item = _first_item(element)
            return None if item is None else Header({int(tag): element for tag, element in item.items()})
        except RefusedFilm:
            raise
        except Exception as fault:  # pydicom may raise anything on hostile bytes
            raise RefusedFilm("UnreadableImage", f"the DICOM sequence {name} cannot be parsed") from fault

    def present(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if self.bytes_of(name)]

    def overlay_bits(self) -> int:
        """A mask of those bits of a sample that overlay planes say they take (retired since 2004: PS3.3, C.9.2)."""
        positions = [number for tag in OVERLAY_BITS for number in _numbers(self._elements.get(tag))[:1]]
        return sum(1 << bit for bit in {int(position) for position in positions if position and 0 < position < 16})


def open_file(data: bytes) -> DicomFile:
    """Takes a file apart, up to its pixel data.

    A file without preamble begins with its file meta information or, without that, with its data set, which then is in
    the default transfer syntax (PS3.5, 10.1), or in its explicit sister.

    Raises:
        RefusedFilm: UnreadableImage, ImageTooLarge or TruncatedImage (deflated files).
    """
    if data.startswith(b"DICM"):
        raise RefusedFilm("UnreadableImage", "the DICOM file lacks the preamble of 128 bytes before DICM")
    stream = Limited(data)
    stream.seek(DICOM.stop if data[DICOM] == b"DICM" else 0)
    meta = Header(_elements(stream, False, True, lambda tag, vr, length: tag >> 16 != 2, list(_META.values())))
    named = meta.text("TransferSyntaxUID")
    syntax = uid.UID(named, validation_mode=config.IGNORE) if named else None
    body, start = data, stream.tell()
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        body, start = _inflated(data[start:]), 0
    header, pixels = _data_set(body, start, syntax != uid.ExplicitVRBigEndian)
    return DicomFile(body, syntax, meta.text("MediaStorageSOPClassUID"), header, pixels)


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = inflater.decompress(data, MAX_INFLATED + 1)
    except zlib.error as fault:
        raise RefusedFilm("UnreadableImage", "the deflated DICOM file is damaged") from fault
    if len(body) > MAX_INFLATED:
        raise RefusedFilm("ImageTooLarge", f"the deflated DICOM file holds more than {MAX_INFLATED} bytes")
    if not inflater.eof:
        raise RefusedFilm("TruncatedImage", "the deflated DICOM file is cut short")
    return body


def _data_set(body: bytes, start: int, little_endian: bool) -> tuple[Header, PixelData | None]:
    """The elements that are needed, and where the pixel data begin.

    Whether value representations are explicit, the first element shows; files differ from their transfer syntax in it.
    """
    stream, found = Limited(body), list[PixelData]()
    stream.seek(start)

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        if tag in _FLOAT_PIXEL_DATA:
            raise RefusedFilm("UnreadableImage", "the DICOM file holds pixels as floating point numbers: not read")
        if tag == _PIXEL_DATA:
            found.append(PixelData(stream.tell(), length, vr))
        elif length != UNDEFINED and stream.tell() + length > len(body):
            said = f"({tag >> 16:04X},{tag & 0xFFFF:04X}) goes beyond the file's end"
            raise RefusedFilm("UnreadableImage", f"no pixel data in the DICOM file: its element {said}")
        return tag == _PIXEL_DATA

    explicit = re.fullmatch(b"[A-Z]{2}", body[start + 4 : start + 6]) is not None
    elements = _elements(stream, not explicit, little_endian, at_pixels, [*_TAGS.values(), *OVERLAY_BITS])
    return Header(elements), found[-1] if found else None


def _elements(
    stream: Limited,
    implicit: bool,
    little_endian: bool,
    stop_when: Callable[[int, str | None, int], bool],
    tags: list[int],
) -> dict[int, RawDataElement | DataElement]:
    """The elements of ``tags`` up to where ``stop_when`` says.

    Others of a length that they state are passed over; sequences and values without one are searched for their end.
    """
    last = [0]

    def stop(tag: int, vr: str | None, length: int) -> bool:
        last[0] = tag
        return stop_when(tag, vr, length)

    try:
        found = data_element_generator(stream, implicit, little_endian, stop, specific_tags=[*tags])
        return {int(element.tag): element for element in found}
    except RefusedFilm:
        raise
    except RecursionError as fault:
        raise RefusedFilm("UnreadableImage", "the DICOM file's sequences are nested without end") from fault
    except Exception as fault:  # pydicom may raise anything on hostile bytes
        said = f"({last[0] >> 16:04X},{last[0] & 0xFFFF:04X})"
        raise RefusedFilm(
            "UnreadableImage", f"the DICOM file cannot be parsed in or after its element {said}"
        ) from fault


def _bytes(element: RawDataElement | DataElement | None) -> bytes:
    return element.value if isinstance(element, RawDataElement) and isinstance(element.value, bytes) else b""


def _vr(element: RawDataElement) -> str:
    """Its value representation, explicit or of PS3.6."""
    return element.VR if element.VR not in (None, "UN") else dictionary_VR(element.tag)[:2]


def _numbers(element: RawDataElement | DataElement | None) -> list[float | None]:
    data = _bytes(element)[:MAX_TEXT]
    if isinstance(element, DataElement):
        return [None]  # a sequence in its place
    if element is None or not data:
        return []
    if (kind := _BINARY.get(_vr(element))) is None:
        if not data.strip(b"\0 \t\r\n"):
            return []
        texts = [text.strip("\0 \t\r\n") for text in data.decode("latin-1").split("\\")]
        return [_finite(float(text)) if _NUMBER.fullmatch(text) else None for text in texts]
    size = struct.calcsize(kind)
    if len(data) < size:
        return [None]
    order = "<" if element.is_little_endian or element.VR == "UN" else ">"
    return [_finite(float(value)) for (value,) in struct.iter_unpack(order + kind, data[: len(data) // size * size])]


def _finite(number: float) -> float | None:
    return number if np.isfinite(number) else None


def _first_item(element: RawDataElement | DataElement | None) -> Dataset | None:
    if isinstance(element, DataElement):
        return element.value[0] if element.value else None
    if not (data := _bytes(element)):
        return None
    assert element is not None
    stream = Limited(data)
    unknown = element.VR == "UN"  # which is implicit and little endian (PS3.5, 6.2.2)
    implicit, little = unknown or element.is_implicit_VR, unknown or element.is_little_endian
    return read_sequence_item(stream, implicit, little, "iso8859")
