"""JPEG files and frames (ITU-T T.81): the picture without what is stored beside it, and whether all of it is there."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import simplejpeg
from PIL import Image

from handlers.decoding.containers import JPEG, Stored, orientation
from handlers.refusals import RefusedFilm, check_size

MAX_SEGMENTS = 20_000
"""Of a picture. There are a dozen, and 64 MB of colour profile are a thousand more; each costs a microsecond."""
MAX_SCANS = 100
"""Of a picture, which has about ten where it is progressive. Each one walks over the whole picture (libjpeg-turbo,
*Two Issues with the JPEG Standard*, 2014): without a limit a small file takes hours."""

_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
"""The markers of a frame header (T.81, table B.1; JPEG-LS: T.87)."""
_SEQUENTIAL = {0xC0, 0xC1, 0xC9}
LOSSLESS, _JPEG_LS = 0xC3, 0xF7
_DCT = _SEQUENTIAL | {0xC2, 0xCA}
"""Those of a picture that libjpeg decodes: sequential or progressive, Huffman or arithmetic."""
_TABLES = {0xC4, 0xCC, 0xDB, 0xDD}
"""Huffman and arithmetic tables, quantisation, restart interval."""
_SOI, _EOI, _SOS, _JFIF, _EXIF, _ADOBE = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
END_MARKER = b"\xff\xd9"
"""Of a JPEG, JPEG-LS or JPEG 2000 picture (T.81, EOI; T.800, EOC)."""
_MARKER = re.compile(rb"\xff++([\x01-\xfe])", re.DOTALL)
_SCAN_END = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]", re.DOTALL)
"""Inside a scan 0xFF is followed by 0x00 or is a restart marker, in JPEG-LS by less than 0x80."""
_LEFT_OVER = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")


@dataclass(frozen=True)
class JpegHeader:
    """What a JPEG or JPEG-LS frame says of itself."""

    rows: int
    columns: int
    components: int
    precision: int
    marker: int = 0xC0


def jpeg_header(data: bytes) -> JpegHeader:
    """The frame header (T.81, B.2.2) of a file whose segments and scans keep to the limits.

    Raises:
        RefusedFilm: UnreadableImage for what is no JPEG or keeps to no limit, TruncatedImage without a header or scan.
    """
    header = None
    for marker, start, end in _segments(data):
        if marker in _SOF and header is None:
            if end - start < 8 or end - start != 8 + 3 * data[start + 7]:
                raise RefusedFilm("TruncatedImage", "the JPEG file is damaged: the header of its frame makes no sense")
            precision, rows, columns, components = struct.unpack_from(">BHHB", data, start + 2)
            header = JpegHeader(rows, columns, components, precision, marker)
        elif marker == _SOS and header is None:
            break
    if header is None:
        raise RefusedFilm("TruncatedImage", "the JPEG header is cut short or damaged: a scan comes before its frame")
    return header


def read_jpeg(data: bytes) -> Stored:
    """The first picture of a file, decoded. What is stored beside it is left out: colour profiles, thumbnails, words,
    further pictures, whatever follows its end.

    Raises:
        RefusedFilm: UnreadableImage for what libjpeg does not decode to 8 bit, ImageTooLarge, or TruncatedImage where
            the file does not hold all of the picture or is damaged.
    """
    header = jpeg_header(data)
    if header.marker not in _DCT:
        kind = {LOSSLESS: "lossless", _JPEG_LS: "JPEG-LS"}.get(header.marker, "hierarchical or lossless")
        raise RefusedFilm("UnreadableImage", f"a {kind} JPEG picture, where a baseline or progressive one is read")
    if header.precision != 8 or header.components not in (1, 3, 4):
        kind = f"{header.precision} bit and {header.components} components"
        raise RefusedFilm("UnreadableImage", f"a JPEG file of {kind}: 8 bit and 1, 3 or 4 components are read")
    check_size(header.rows, header.columns)
    stripped, exif, ended = _first_picture(data, header)
    _check_coefficients(stripped, header)
    _check_whole(stripped, header.components, ended)
    try:
        picture = Image.open(BytesIO(stripped), formats=("JPEG",))
        picture.load()
    except (OSError, SyntaxError) as fault:
        raise RefusedFilm("TruncatedImage", f"the JPEG file is cut short or damaged: {fault}") from fault
    return Stored(picture, orientation(exif))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment of the first picture, its end marker included, where it has one.

    A scan's segment goes on to the next marker.
    """
    if not data.startswith(JPEG):
        raise RefusedFilm("UnreadableImage", "the frame is no JPEG picture")
    offset, scans = 2, 0
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.match(data, offset)
        marker = found[1][0] if found else _EOI
        if found is None or marker in (_SOI, _EOI):
            if not scans:
                raise RefusedFilm("TruncatedImage", "the JPEG header is cut short or damaged")
            if found and marker == _EOI:
                yield marker, offset, offset
            return
        start = found.end()
        end = start + int.from_bytes(data[start : start + 2], "big")
        if end < start + 2 or end > len(data):
            raise RefusedFilm("TruncatedImage", "the JPEG file is cut short or damaged: a segment goes beyond its end")
        if marker == _SOS:
            if end - start < 6 or end - start != 6 + 2 * data[start + 2]:
                raise RefusedFilm("TruncatedImage", "the JPEG file is damaged: the header of a scan makes no sense")
            scans += 1
            if scans > MAX_SCANS:
                raise RefusedFilm("UnreadableImage", f"a JPEG file of over {MAX_SCANS} scans is not read")
            following = _SCAN_END.search(data, end)
            end = following.start() if following else len(data)
        yield marker, start, end
        offset = end
    raise RefusedFilm("UnreadableImage", f"a JPEG file of over {MAX_SEGMENTS} segments is not read")


def _first_picture(data: bytes, header: JpegHeader) -> tuple[bytes, bytes, bool]:
    """A file of the first picture alone; the EXIF block beside it; whether the picture has an end marker.

    Of JFIF's and Adobe's segments only that is kept which says what the components are. What a sequential scan says of
    coefficients means nothing (T.81, table B.3); some writers leave it at zero.
    """
    view = memoryview(data)
    kept, exif, ended = list[bytes | memoryview]([view[:2]]), b"", False
    for marker, start, end in _segments(data):
        content = data[start + 2 : end] if marker in (_JFIF, _EXIF, _ADOBE) else b""
        if marker == _SOS and header.marker in _SEQUENTIAL:
            offset = start + int.from_bytes(data[start : start + 2], "big")
            kept += [b"\xff\xda", view[start : offset - 3], b"\0\x3f\0", view[offset:end]]
        elif marker in _SOF | _TABLES | {_SOS}:
            kept += [bytes((0xFF, marker)), view[start:end]]
        elif marker == _JFIF and content.startswith(b"JFIF\0"):
            kept.append(b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0")
        elif marker == _ADOBE and content.startswith(b"Adobe") and len(content) >= 12:
            transform = 0 if content[11] == 0 else {3: 1, 4: 2}.get(header.components, 0)
            kept.append(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes((transform,)))
        elif marker == _EXIF and content.startswith(b"Exif\0\0") and not exif:
            exif = content
        elif marker == _EOI:
            ended = True
    return b"".join((*kept, END_MARKER)), exif, ended


def _check_coefficients(stripped: bytes, header: JpegHeader) -> None:
    """Raises RefusedFilm (TruncatedImage) where the scans leave out coefficients of a component (T.81, G.1.1.1).

    A progressive file that was cut between two scans decodes in order, to a picture without its details.
    """
    missing = set[tuple[int, int]]()
    for marker, start, _ in _segments(stripped):
        if marker == header.marker:
            components = stripped[start + 8 : start + 8 + 3 * header.components : 3]
            missing = {(component, index) for component in components for index in range(64)}
        elif marker == _SOS:
            offset = start + 3 + 2 * stripped[start + 2]
            components, (first, last, approximation) = stripped[start + 3 : offset : 2], stripped[offset : offset + 3]
            if approximation & 0x0F == 0:
                missing -= {(component, index) for component in components for index in range(first, last + 1)}
    if missing:
        raise RefusedFilm("TruncatedImage", "the JPEG file is cut short: it lacks its last scans")


def _check_whole(stripped: bytes, components: int, ended: bool) -> None:
    """Raises RefusedFilm (TruncatedImage) where libjpeg makes up pixels that are not in the file.

    Pillow does not pass on libjpeg's warnings, and libjpeg fills what a scan does not hold. So the scans are read once
    more, at an eighth of the size. Zero bytes left over before the end marker are some writers' padding.
    """
    colours = {1: "GRAY", 3: "RGB", 4: "CMYK"}[components]
    try:
        simplejpeg.decode_jpeg(stripped, colours, fastdct=True, fastupsample=True, min_height=1, min_width=1)
    except ValueError as fault:
        left = _LEFT_OVER.fullmatch(str(fault))
        if left and ended and not any(stripped[-2 - int(left[1]) : -2]):
            return
        raise RefusedFilm("TruncatedImage", f"the JPEG file is cut short or damaged: {fault}") from fault
