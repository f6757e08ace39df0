"""Bytes to pixels, for training and for serving: the only decoder in the project."""

import zlib
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from handlers import dicom
from handlers.containers import JPEG, PNG, is_dicom, jpeg_header, png_chunks
from handlers.refused import MAX_BYTES, RefusedFilm, check_frames, check_size

COLOURED, COLOUR_SHARE = 32, 0.1
"""A picture is in colour where more than this share of its pixels have channels further apart than that. JPEG's own
error, a tinted film base and a coloured mark stay below."""

_TO_8_BIT = (np.arange(2**16) // 257).astype(np.uint8)  # 65535 / 257 = 255


def read_film(data: bytes) -> NDArray[np.uint8]:
    """Decodes a PNG, JPEG or DICOM file.

    Transparency is not grey: a pixel keeps its stored grey, and is black where it is fully transparent.

    Returns:
        [H, W] uint8, dense structures bright (MONOCHROME2), windowed where the file says how.

    Raises:
        RefusedFilm: the file is empty, of another kind, damaged, no radiograph, or too large to decode safely.
    """
    if not data:
        raise RefusedFilm("EmptyRequest", "no film: send the file's bytes as the body, or as form field 'data'")
    if len(data) > MAX_BYTES:
        raise RefusedFilm("ImageTooLarge", f"a file of {len(data)} bytes: a film has at most {MAX_BYTES}")
    try:
        return dicom.read_dicom(data) if is_dicom(data) else _read_picture(data)
    except RefusedFilm:
        raise
    except MemoryError as fault:
        raise RefusedFilm("ImageTooLarge", "decoding takes more memory than there is") from fault
    except Exception as fault:  # a decoder may raise anything on hostile bytes; its words may quote the file's
        raise RefusedFilm("UnreadableImage", f"the file cannot be decoded ({type(fault).__name__})") from fault


def to_pixels(film: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """[H, W] uint8 -> [size, size] uint8, antialiased.

    The aspect ratio is not kept: NIH's 1024-px squares were made so from films of any shape.
    """
    resized = Image.fromarray(film).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.array(resized)


def _read_picture(data: bytes) -> NDArray[np.uint8]:
    is_png = data.startswith(PNG)
    if is_png:
        chunks = list(png_chunks(data))
    elif data.startswith(JPEG):
        jpeg_header(data)
    else:
        raise RefusedFilm("UnreadableImage", "not a PNG, JPEG or DICOM file")
    try:
        picture = Image.open(BytesIO(data), formats=("PNG", "JPEG"))
    except OSError as fault:
        raise RefusedFilm("TruncatedImage", "the file's header is cut short or damaged") from fault
    except Image.DecompressionBombError as fault:
        raise RefusedFilm("ImageTooLarge", "the picture has more pixels than any film") from fault
    columns, rows = picture.size
    check_size(rows, columns)
    check_frames(getattr(picture, "n_frames", 1))
    try:
        picture.load()
    except (OSError, SyntaxError) as fault:  # Pillow reports a broken PNG chunk as SyntaxError
        raise RefusedFilm("TruncatedImage", f"the file is cut short or damaged: {fault}") from fault
    if is_png:
        _check_sums(data, chunks)
        _check_last_row(data, chunks, picture)
    ImageOps.exif_transpose(picture, in_place=True)
    return _grey(picture)


def _grey(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode.startswith("I"):
        return np.take(_TO_8_BIT, np.asarray(picture), mode="clip")
    if not picture.has_transparency_data:
        return _grey_of_opaque(picture)
    picture = picture.convert("RGBA")
    alpha = picture.getchannel("A")
    lowest, highest = alpha.getextrema()
    if highest == 0:
        raise RefusedFilm("UnreadableImage", "every pixel is transparent: there is nothing to see")
    grey = _grey_of_opaque(picture)
    return np.where(np.asarray(alpha) == 0, np.uint8(0), grey) if lowest == 0 else grey


def _grey_of_opaque(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode not in ("1", "L"):
        colour = picture.convert("RGB")
        _check_colour(colour)
        picture = colour
    return np.asarray(picture if picture.mode == "L" else picture.convert("L"))


def _check_colour(picture: Image.Image) -> None:
    """Raises RefusedFilm (NotARadiograph) for a photograph, by at most 256 x 256 of its pixels."""
    columns, rows = picture.size
    sample = picture.resize((min(columns, 256), min(rows, 256)), Image.Resampling.NEAREST)
    apart = np.ptp(np.asarray(sample), axis=2)
    if (share := (apart > COLOURED).mean()) > COLOUR_SHARE:
        raise RefusedFilm("NotARadiograph", f"a picture in colour ({share:.0%} of its pixels): a radiograph is grey")


def _check_sums(data: bytes, chunks: list[tuple[bytes, int, int]]) -> None:
    """Raises RefusedFilm (TruncatedImage) where pixels are not those that were written; Pillow does not look."""
    view = memoryview(data)
    for name, start, end in chunks:
        if name == b"IDAT" and zlib.crc32(view[start - 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise RefusedFilm("TruncatedImage", "the file is damaged: a checksum of its pixels is wrong")


def _check_last_row(data: bytes, chunks: list[tuple[bytes, int, int]], picture: Image.Image) -> None:
    """Raises RefusedFilm (TruncatedImage) for a PNG that holds fewer rows than it says.

    Where its compressed stream ends in order but too soon, Pillow leaves the rest black and says nothing. So a black
    last row, or a film sent in seven passes, is counted.
    """
    columns, rows = picture.size
    interlaced = bool(picture.info.get("interlace"))
    if not interlaced and np.asarray(picture.crop((0, rows - 1, columns, rows))).any():
        return
    depth, kind = data[24], data[25]  # of IHDR, which comes first (PNG, 11.2.1)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    wanted = sum(high * (1 + -(-wide * bits // 8)) for high, wide in _passes(rows, columns, interlaced) if wide)
    inflater, held = zlib.decompressobj(), 0
    for start, end in ((start, end) for name, start, end in chunks if name == b"IDAT"):
        held += len(inflater.decompress(data[start:end], wanted - held))
        if held == wanted:
            return
    raise RefusedFilm("TruncatedImage", f"the PNG file holds {held} bytes of pixels, not {wanted}")


def _passes(rows: int, columns: int, interlaced: bool) -> list[tuple[int, int]]:
    """Rows and columns of each of Adam7's passes (PNG, 8.1), or of the one."""
    if not interlaced:
        return [(rows, columns)]
    steps = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    return [(len(range(top, rows, down)), len(range(left, columns, across))) for top, down, left, across in steps]
