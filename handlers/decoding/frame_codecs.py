"""JPEG 2000, JPEG-LS and lossless JPEG by OpenJPEG and GDCM, in a process of their own (``process_pool``).

They hold the interpreter's lock while they decode (a second for a JPEG 2000 film), cannot be interrupted, and are C and
C++ that hostile bytes may crash.
"""

from typing import Any

from openjpeg.utils import decode as decode_jpeg_2000
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder


def decode(frame: bytes, syntax: str, rows: int, columns: int, bits: int) -> bytes:
    """The frame's samples, row by row, in little endian; empty where it cannot be decoded.

    Args:
        syntax: a transfer syntax of DICOM.
        bits: of a sample as it is returned, 8 or 16.
    """
    try:
        if uid.UID(syntax) in uid.JPEG2000TransferSyntaxes:
            return decode_jpeg_2000(frame, 0, reshape=False).tobytes()
        # Bits stored are not the frame's own: pydicom refuses JPEG-LS of 6 bit, which GDCM decodes.
        layout: dict[str, Any] = {"rows": rows, "columns": columns, "bits_allocated": bits, "bits_stored": bits}
        layout |= {"samples_per_pixel": 1, "number_of_frames": 1, "pixel_representation": 0}
        layout |= {"photometric_interpretation": "MONOCHROME2", "pixel_keyword": "PixelData"}
        return bytes(get_decoder(syntax).as_buffer(encapsulate([frame]), decoding_plugin="gdcm", **layout)[0])
    except Exception:  # a decoder may raise anything on hostile bytes
        return b""
