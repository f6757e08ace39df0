"""The compressed frames of DICOM files: bytes to samples."""

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid

from handlers.codec_process import CodecFault, CodecProcess, CodecTimeout
from handlers.jpeg import JpegHeader, jpeg_header, read_jpeg
from handlers.refused import RefusedFilm

Samples = NDArray[np.uint8 | np.uint16]

PILLOW = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
GDCM = (uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless)
OPENJPEG = (uid.JPEG2000Lossless, uid.JPEG2000)
COMPRESSED = (uid.RLELossless, *PILLOW, *GDCM, *OPENJPEG)

MAX_TILES = 1024
"""Of a JPEG 2000 frame; a decoder keeps state for each."""

_idle: list[CodecProcess] = []
_lock = threading.Lock()


def decode_frame(frame: bytes, syntax: uid.UID, rows: int, columns: int, allocated: int) -> Samples:
    """[rows, columns] uint8 or uint16 of one grey frame; ``allocated`` (8 or 16 bit) is what RLE goes by.

    Raises:
        RefusedFilm: UnreadableImage, TruncatedImage, DecodeTimeout, UnsupportedTransferSyntax (12-bit lossy JPEG).
    """
    if syntax == uid.RLELossless:
        return _run_lengths(frame, rows, columns, allocated // 8)
    header = _jpeg_2000_header(frame) if syntax in OPENJPEG else jpeg_header(frame)
    # A decoder allocates what the frame says, so this comes before it.
    if (header.rows, header.columns, header.components) != (rows, columns, 1) or not 2 <= header.precision <= 16:
        size = f"{header.columns} x {header.rows} px, {header.components} components, {header.precision} bit"
        raise RefusedFilm("UnreadableImage", f"the frame says {size}; the DICOM header {columns} x {rows} px, grey")
    if syntax in PILLOW:
        if header.precision != 8:
            raise RefusedFilm(
                "UnsupportedTransferSyntax", f"{syntax.name} of {header.precision} bit: only 8 bit is read"
            )
        return np.asarray(read_jpeg(frame).picture)
    request = {"codec": "openjpeg" if syntax in OPENJPEG else "gdcm", "syntax": str(syntax)}
    pixels = _in_a_process(frame, {**request, "rows": rows, "columns": columns, "precision": header.precision})
    samples = np.frombuffer(pixels, np.uint8 if header.precision <= 8 else "<u2")
    if samples.size != rows * columns:
        raise RefusedFilm("UnreadableImage", f"the frame holds {samples.size} samples, not {rows * columns}")
    return samples.reshape(rows, columns)


def _jpeg_2000_header(frame: bytes) -> JpegHeader:
    """Marker SIZ, which comes first (ITU-T T.800, A.5.1)."""
    if frame[:4] != b"\xff\x4f\xff\x51" or len(frame) < 43:
        raise RefusedFilm("UnreadableImage", "the frame is no JPEG 2000 codestream")
    width, height, left, top, tile_width, tile_height, tile_left, tile_top, components, depth, across, down = (
        struct.unpack_from(">8IH3B", frame, 8)
    )
    if across != 1 or down != 1 or not tile_width or not tile_height:
        raise RefusedFilm("UnreadableImage", "the frame's JPEG 2000 header makes no picture")
    tiles = -(-(width - tile_left) // tile_width) * -(-(height - tile_top) // tile_height)
    if tiles > MAX_TILES:
        raise RefusedFilm("ImageTooLarge", f"a JPEG 2000 frame of {tiles} tiles: at most {MAX_TILES} are read")
    return JpegHeader(height - top, width - left, components, (depth & 0x7F) + 1)


def _run_lengths(frame: bytes, rows: int, columns: int, width: int) -> Samples:
    """PackBits, one segment per byte of a sample, the most significant first (PS3.5, annex G)."""
    if len(frame) < 64:
        raise RefusedFilm("TruncatedImage", "the RLE frame is cut short")
    number, *offsets = struct.unpack_from("<16I", frame)
    if number != width:
        raise RefusedFilm("UnreadableImage", f"the RLE frame has {number} segments: {8 * width} bit have {width}")
    ends = [*offsets[1:number], len(frame)]
    try:
        # As one long row, since some writers let a run go on in the next.
        planes = [
            np.asarray(Image.frombytes("L", (rows * columns, 1), frame[start:end], "packbits", "L"))[0]
            for start, end in zip(offsets, ends, strict=False)
        ]
    except ValueError as fault:
        raise RefusedFilm("TruncatedImage", "the RLE frame is cut short or damaged") from fault
    if number == 1:
        return planes[0].reshape(rows, columns)
    samples = np.empty((rows * columns, 2), np.uint8)
    samples[:, 1], samples[:, 0] = planes
    return samples.view("<u2").reshape(rows, columns)


def _in_a_process(frame: bytes, request: dict[str, object]) -> bytes:
    try:
        with _codec_process() as process:
            pixels = process.decode(frame, request)
    except CodecTimeout as fault:
        raise RefusedFilm("DecodeTimeout", "the compressed frame takes too long to decode") from fault
    except CodecFault as fault:
        raise RefusedFilm("UnreadableImage", "the compressed frame breaks its decoder") from fault
    if not pixels:
        raise RefusedFilm("UnreadableImage", "the compressed frame cannot be decoded: cut short or damaged")
    return pixels


@contextmanager
def _codec_process() -> Iterator[CodecProcess]:
    """One that no other thread has, started on first need and kept for the next film."""
    with _lock:
        process = _idle.pop() if _idle else None
    if process is None or not process.alive:
        process = CodecProcess()
    try:
        yield process
    except BaseException:
        process.close()  # what it still may answer belongs to no later film
        raise
    with _lock:
        _idle.append(process)
