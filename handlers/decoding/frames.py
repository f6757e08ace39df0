"""The compressed frames of DICOM files: out of their fragments, and bytes to samples."""

import struct

import numpy as np
from PIL import Image
from pydicom import uid

from handlers.decoding.containers import JP2, JPEG, JPEG_2000
from handlers.decoding.dicom_header import UNDEFINED, PixelData
from handlers.decoding.dicom_layout import Layout, Samples
from handlers.decoding.jpeg import END_MARKER, LOSSLESS, JpegHeader, jpeg_header, read_jpeg
from handlers.decoding.process_pool import ProcessPool
from handlers.refusals import RefusedFilm, check_frames

PILLOW = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
GDCM = (uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEGLSNearLossless)
OPENJPEG = (uid.JPEG2000Lossless, uid.JPEG2000)
COMPRESSED = (uid.RLELossless, *PILLOW, *GDCM, *OPENJPEG)

MAX_FRAGMENTS = 10_000
"""Of the one frame, its offset table included; 64 MB in the smallest fragments that are seen."""
MAX_TILES = 1024
"""Of a JPEG 2000 frame; a decoder keeps state for each."""
MAX_BOXES = 100
"""Of a JP2 file, of which there are half a dozen before the codestream."""

_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_STARTS = (JPEG, JPEG_2000, JP2)
"""Of a JPEG or JPEG-LS frame, and of a JPEG 2000 frame."""
_RUN_LENGTHS = b"\0\0\0\x40\0\0\0"
"""An RLE frame's bytes 1 to 8: under 256 segments, of which the first comes after 64 bytes (PS3.5, G.5)."""

_codecs = ProcessPool("handlers.decoding.frame_codecs:decode", cpu_seconds=4.0)
"""In 4 s OpenJPEG decodes some 25 million pixels of lossless JPEG 2000."""


def frame_of(body: bytes, pixels: PixelData) -> bytes:
    """The one frame: its fragments, joined (PS3.5, A.4), in defined length or not, or as it lies there without any.

    The first fragment is the offset table, which some writers leave out, as others do the delimiter after the last one.
    Whether the frame is whole, its decoder sees.

    Raises:
        RefusedFilm: TruncatedImage, or NotARadiograph for several frames.
    """
    end = len(body) if pixels.length == UNDEFINED else pixels.start + pixels.length
    if end > len(body):
        raise RefusedFilm("TruncatedImage", "the DICOM pixel data are cut short")
    items, offset = list[bytes](), pixels.start
    if body[offset : offset + 4] != _ITEM:
        return body[offset:end]
    while body[offset : offset + 4] == _ITEM and offset < end and len(items) < MAX_FRAGMENTS:
        after = offset + 8 + int.from_bytes(body[offset + 4 : offset + 8], "little")
        items.append(body[offset + 8 : after])
        offset = after
    fragments = items if len(items) == 1 or items[0].startswith(_STARTS) else items[1:]
    check_frames(sum(fragment.startswith(_STARTS) or fragment[1:8] == _RUN_LENGTHS for fragment in fragments))
    frame = b"".join(fragments)
    ended = body[offset : offset + 4] == _DELIMITER or end - offset < 8
    if not frame or offset > end or not ended:
        raise RefusedFilm("TruncatedImage", "the DICOM pixel data are cut short or damaged")
    return frame


def decode_frame(frame: bytes, syntax: uid.UID, layout: Layout) -> Samples:
    """[rows, columns] or [rows, columns, 3] uint8 or uint16 of one frame.

    Raises:
        RefusedFilm: UnreadableImage, TruncatedImage, DecodeTimeout, UnsupportedTransferSyntax (12-bit lossy JPEG).
    """
    if syntax == uid.RLELossless:
        return _run_lengths(frame, layout)
    if syntax in OPENJPEG:
        frame = _codestream(frame)
        header, signed = _jpeg_2000_header(frame)
    else:
        header, signed = jpeg_header(frame), False
    # A decoder allocates what the frame says, so this comes before it.
    rows, columns, channels = layout.rows, layout.columns, layout.channels
    if (header.rows, header.columns, header.components) != (rows, columns, channels) or not 2 <= header.precision <= 16:
        size = f"{header.columns} x {header.rows} px, {header.components} components, {header.precision} bit"
        said = f"the DICOM header {columns} x {rows} px, {layout.interpretation}"
        raise RefusedFilm("UnreadableImage", f"the frame says {size}; {said}")
    candidates = _with_end_marker(frame)
    if syntax in PILLOW:
        if header.precision != 8:
            raise RefusedFilm(
                "UnsupportedTransferSyntax", f"{syntax.name} of {header.precision} bit: only 8 bit is read"
            )
        return np.asarray(read_jpeg(candidates[0]).picture)
    if channels == 3 and (syntax in GDCM or header.precision != 8):
        raise RefusedFilm("UnsupportedTransferSyntax", f"{syntax.name} of three components is not read")
    if header.marker == LOSSLESS and candidates != [frame]:  # its decoder makes up what is missing
        raise RefusedFilm("TruncatedImage", "the lossless JPEG frame has no end marker: it is cut short")
    bits = 8 if header.precision <= 8 else 16
    decoded = (_codecs.call(one, syntax=syntax, rows=rows, columns=columns, bits=bits) for one in candidates)
    pixels = next(filter(None, decoded), b"")
    if not pixels:
        raise RefusedFilm("UnreadableImage", "the compressed frame cannot be decoded: cut short or damaged")
    samples = np.frombuffer(pixels, f"<u{bits // 8}")
    if samples.size != rows * columns * channels:
        raise RefusedFilm("UnreadableImage", f"the frame holds {samples.size} samples, not {rows * columns * channels}")
    if signed and header.precision <= 8 and layout.stored > 8:
        samples = samples.view(np.int8).astype(np.int16).view(np.uint16)
    return samples.reshape((rows, columns, channels) if channels > 1 else (rows, columns))


def _codestream(frame: bytes) -> bytes:
    """A JPEG 2000 codestream, out of the boxes of a JP2 file (ITU-T T.800, annex I), if it is one."""
    offset, boxes = 0, 0
    while frame.startswith(JP2) and boxes < MAX_BOXES and offset + 8 <= len(frame):
        length, start = int.from_bytes(frame[offset : offset + 4], "big"), offset + 8
        if length == 1:
            length, start = int.from_bytes(frame[offset + 8 : offset + 16], "big"), offset + 16
        end = offset + length if length else len(frame)
        if frame[offset + 4 : offset + 8] == b"jp2c":
            frame = frame[start:end]
            break
        offset, boxes = max(end, offset + 8), boxes + 1
    return frame


def _with_end_marker(frame: bytes) -> list[bytes]:
    """The frame, or what it may have been before it lost its end marker: a zero byte at its end may be padding.

    Without the marker some decoders decode nothing; with it, nothing that is not whole.
    """
    if frame.rstrip(b"\0\xff").endswith(END_MARKER):
        return [frame]
    return [frame + END_MARKER] + [frame[:-1] + END_MARKER] * frame.endswith(b"\0")


def _jpeg_2000_header(frame: bytes) -> tuple[JpegHeader, bool]:
    """Marker SIZ, which comes first (ITU-T T.800, A.5.1), and whether samples are signed."""
    if not frame.startswith(JPEG_2000) or len(frame) < 43:
        raise RefusedFilm("UnreadableImage", "the frame is no JPEG 2000 codestream")
    width, height, left, top, tile_width, tile_height, tile_left, tile_top, components, depth, across, down = (
        struct.unpack_from(">8IH3B", frame, 8)
    )
    if across != 1 or down != 1 or not tile_width or not tile_height:
        raise RefusedFilm("UnreadableImage", "the frame's JPEG 2000 header makes no picture")
    tiles = -(-(width - tile_left) // tile_width) * -(-(height - tile_top) // tile_height)
    if tiles > MAX_TILES:
        raise RefusedFilm("ImageTooLarge", f"a JPEG 2000 frame of {tiles} tiles: at most {MAX_TILES} are read")
    return JpegHeader(height - top, width - left, components, (depth & 0x7F) + 1), depth > 0x7F


def _run_lengths(frame: bytes, layout: Layout) -> Samples:
    """PackBits, one segment per byte of a sample, the most significant first (PS3.5, annex G).

    By Pillow, which stops at the film's size: pydicom inflates a segment to its end, up to 64 times its bytes.
    """
    if len(frame) < 64:
        raise RefusedFilm("TruncatedImage", "the RLE frame is cut short")
    rows, columns, width = layout.rows, layout.columns, layout.allocated // 8 * layout.channels
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
    if layout.channels == 3:
        return np.stack(planes, axis=-1).reshape(rows, columns, 3)
    samples = np.empty((rows * columns, 2), np.uint8)
    samples[:, 1], samples[:, 0] = planes
    return samples.view("<u2").reshape(rows, columns)
