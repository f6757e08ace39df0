"""What a file is by its first bytes, and how its picture lies in it."""

import re
import struct
from typing import NamedTuple

from PIL import Image

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
JPEG_2000, JP2 = b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "
"""A JPEG 2000 codestream, and the file of boxes around one (ITU-T T.800, A.2 and I.5.1)."""
DICOM = slice(128, 132)
"""Where a DICOM file says ``DICM`` (PS3.10, section 7.1)."""
_FIRST_ELEMENT = re.compile(rb"[\2\x08]\0.\0([A-Z]{2}|[\0-\x80]\0\0\0)", re.DOTALL)
"""Of group 2 or 8, little endian, with a value representation or a short length (PS3.5, 7.1)."""

_OTHER_KINDS = (
    (0, b"GIF8", "a GIF file"),
    (0, b"II*\0", "a TIFF file"),
    (0, b"MM\0*", "a TIFF file"),
    (0, b"II+\0", "a TIFF file"),
    (0, b"MM\0+", "a TIFF file"),
    (0, b"BM", "a BMP file"),
    (8, b"WEBP", "a WebP file"),
    (4, b"ftypavif", "an AVIF file"),
    (4, b"ftyphei", "a HEIC file"),
    (4, b"ftypmif1", "a HEIC file"),
    (4, b"ftyp", "a video"),
    (0, JP2, "a JPEG 2000 file outside DICOM"),
    (0, JPEG_2000, "a JPEG 2000 file outside DICOM"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL file"),
    (0, b"\xff\x0a", "a JPEG XL file"),
    (0, b"P5", "a PNM file"),
    (0, b"P6", "a PNM file"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\0\0\1\0", "an icon"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"NRRD", "an NRRD file"),
    (344, b"n+1\0", "a NIfTI file"),
    (0, b"\x1f\x8b", "a file packed with gzip"),
    (0, b"BZh", "a file packed with bzip2"),
    (0, b"\xfd7zXZ\0", "a file packed with xz"),
    (0, b"\x28\xb5\x2f\xfd", "a file packed with zstd"),
    (0, b"PK", "a ZIP archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"\x89PNG", "a PNG file whose line ends a transfer as text has changed"),
    (0, b"iVBORw0KGgo", "a PNG file as base64 text"),
    (0, b"/9j/", "a JPEG file as base64 text"),
    (0, b"data:", "a data URL"),
    (0, b"version https://git-lfs", "a Git LFS pointer to a file that was not fetched"),
    (0, b"<", "a page of HTML or XML"),
    (0, b"{", "JSON text"),
)
"""Kinds of file that are not read: offset and bytes by which each is known, and its name."""


class Stored(NamedTuple):
    """A file's picture as it is stored.

    Attributes:
        orientation: 1 to 8: how it is to be turned (Exif 2.32, 4.6.4, tag 0x0112).
        significant_bits: of a sample, as the file says; 0 where it does not say.
    """

    picture: Image.Image
    orientation: int
    significant_bits: int = 0


def is_dicom(head: bytes) -> bool:
    """Whether a file is DICOM, by its preamble or, without one, by its first element."""
    return b"DICM" in (head[DICOM], head[:4]) or _FIRST_ELEMENT.match(head) is not None


def other_kind(data: bytes) -> str:
    """The kind of a file that is neither PNG nor JPEG nor DICOM, as far as its beginning tells."""
    head = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip(b"\t\n\r ")
    for offset, mark, name in _OTHER_KINDS:
        if data.startswith(mark, offset) or (offset == 0 and head.startswith(mark)):
            return name
    if not data.strip(b"\0"):
        return "zero bytes only"
    if all(32 <= byte < 127 or byte in b"\t\n\r" for byte in head):
        return "text"
    return "a file of an unknown kind"


def orientation(exif: bytes) -> int:
    """An EXIF block's orientation, 1 to 8 (TIFF 6.0, section 2); 1 where it has none or is damaged."""
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(order + "I", block, 4)
        (entries,) = struct.unpack_from(order + "H", block, start)
        for entry in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", block, entry)
            if tag == 0x0112:
                value = int(struct.unpack_from(order + {1: "B", 3: "H", 4: "I"}.get(kind, "H"), block, entry + 8)[0])
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
