"""What a file is by its first bytes; PNG chunks and JPEG segments, walked and limited before a decoder walks them."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from handlers.refused import RefusedFilm

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
DICOM = slice(128, 132)
"""Where a DICOM file says ``DICM`` (PS3.10, section 7.1)."""
MAX_CHUNKS = 20_000
"""Of a PNG file; 64 MB in the usual 8 kB chunks. Pillow walks chunks, and segments, in Python: microseconds each."""
MAX_SEGMENTS = 2_000
"""Of a JPEG file before its first scan, fill bytes included; there are a dozen, and an ICC profile has some more."""
MAX_SCANS = 100
"""Of a JPEG file, which has about ten where it is progressive. Each one walks over the whole picture (libjpeg-turbo,
*Two Issues with the JPEG Standard*, 2014): without a limit a small file takes hours."""

_SOF = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
"""The markers of a JPEG frame header (ITU-T T.81, table B.1; 0xF7: JPEG-LS, T.87)."""
_SOS = 0xDA


@dataclass(frozen=True)
class JpegHeader:
    """What a JPEG or JPEG-LS frame says of itself."""

    rows: int
    columns: int
    components: int
    precision: int


def is_dicom(head: bytes) -> bool:
    return head[DICOM] == b"DICM"


def jpeg_header(data: bytes) -> JpegHeader:
    """The frame header (ITU-T T.81, B.2.2) of a file whose segments and scans keep to the limits.

    Raises:
        RefusedFilm: UnreadableImage for what is no JPEG or keeps to no limit, TruncatedImage without a header or scan.
    """
    if not data.startswith(JPEG):
        raise RefusedFilm("UnreadableImage", "the frame is no JPEG picture")
    if (scans := data.count(bytes((0xFF, _SOS)))) > MAX_SCANS:  # inside a scan 0xFF is followed by 0x00
        raise RefusedFilm("UnreadableImage", f"a JPEG file of {scans} scans: at most {MAX_SCANS} are read")
    place, header = 2, None
    for _ in range(MAX_SEGMENTS):
        if place + 10 > len(data) or data[place] != 0xFF:
            raise RefusedFilm("TruncatedImage", "the JPEG header is cut short or damaged")
        marker = data[place + 1]
        if marker == _SOS and header:
            return header
        if marker in _SOF:
            precision, rows, columns, components = struct.unpack_from(">BHHB", data, place + 4)
            header = JpegHeader(rows, columns, components, precision)
        if marker == 0xFF:  # a fill byte
            place += 1
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    raise RefusedFilm("UnreadableImage", f"a JPEG file of over {MAX_SEGMENTS} segments is not read")


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk's content.

    Raises:
        RefusedFilm: UnreadableImage for more chunks than ``MAX_CHUNKS``.
    """
    place = len(PNG)
    for _ in range(MAX_CHUNKS):
        if place + 8 > len(data):
            return
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8], place + 8, end
        place = end + 4  # a checksum follows
    raise RefusedFilm("UnreadableImage", f"a PNG file of over {MAX_CHUNKS} chunks is not read")
