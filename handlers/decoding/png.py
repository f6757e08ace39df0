"""PNG files (W3C, *Portable Network Graphics*, third edition): the picture without what is stored beside it, and
whether all of it is there."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from handlers.decoding.containers import PNG, Stored, orientation
from handlers.refusals import RefusedFilm, check_frames, check_size

MAX_CHUNKS = 20_000
"""Of a file; 64 MB in the usual 8 kB chunks. Pillow walks those of the pixels in Python: microseconds each."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By colour type: grey, RGB, palette, grey with alpha, RGBA (11.2.1)."""
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_TRANSPARENCY = {0: 2, 2: 6, 3: 1}
"""The least bytes of tRNS by colour type (11.3.1.1)."""


class Chunk(NamedTuple):
    """Where the content of a chunk lies in its file."""

    name: bytes
    start: int
    end: int


class Header(NamedTuple):
    """IHDR (11.2.1)."""

    columns: int
    rows: int
    depth: int
    colour: int
    compression: int
    filtered: int
    interlaced: int


def read_png(data: bytes) -> Stored:
    """The picture of a file, decoded. What is stored beside it is left alone, damaged or not: colour profiles, words,
    private chunks, whatever follows its end.

    Raises:
        RefusedFilm: UnreadableImage for what makes no picture, ImageTooLarge, NotARadiograph for an animation, or
            TruncatedImage where the file does not hold all of the picture or is damaged.
    """
    chunks = list(_chunks(data))
    header = _header(data, chunks)
    pixels = [chunk for chunk in chunks if chunk.name == b"IDAT"]
    if not pixels:
        raise RefusedFilm("TruncatedImage", "the PNG file is cut short: it holds no pixels")
    before = chunks[: chunks.index(pixels[0])]
    _check_checksums(data, pixels, "pixels")
    check_frames(_frames(data, before))
    view = memoryview(data)
    kept = (view[one.start - 8 : one.end + 4] for one in (chunks[0], *_colours(data, before, header), *pixels))
    try:
        picture = Image.open(BytesIO(b"".join((PNG, *kept, b"\0\0\0\0IEND\xaeB`\x82"))), formats=("PNG",))
        picture.load()
    except (OSError, SyntaxError) as fault:  # Pillow reports a broken chunk as SyntaxError
        raise RefusedFilm("TruncatedImage", f"the PNG file is cut short or damaged: {fault}") from fault
    _check_last_row(data, pixels, header, picture)
    significant = _content_of(data, before, b"sBIT")[:1]
    return Stored(picture, orientation(_content_of(data, chunks, b"eXIf")), int.from_bytes(significant, "big"))


def _chunks(data: bytes) -> Iterator[Chunk]:
    """Up to the end of the picture.

    Raises:
        RefusedFilm: UnreadableImage for more chunks than ``MAX_CHUNKS``.
    """
    start = len(PNG)
    for _ in range(MAX_CHUNKS):
        if start + 8 > len(data):
            return
        end = start + 8 + int.from_bytes(data[start : start + 4], "big")
        chunk = Chunk(data[start + 4 : start + 8], start + 8, end)
        if chunk.name == b"IEND":
            return
        yield chunk
        start = end + 4  # a checksum follows
    raise RefusedFilm("UnreadableImage", f"a PNG file of over {MAX_CHUNKS} chunks is not read")


def _header(data: bytes, chunks: Sequence[Chunk]) -> Header:
    if not chunks or chunks[0].name != b"IHDR" or chunks[0].end - chunks[0].start != 13:
        raise RefusedFilm("TruncatedImage", "the PNG file's header is cut short or damaged")
    _check_checksums(data, chunks[:1], "header")
    header = Header(*struct.unpack_from(">IIBBBBB", data, chunks[0].start))
    if header.depth not in _DEPTHS.get(header.colour, ()) or header[4:6] != (0, 0) or header.interlaced > 1:
        said = f"{header.depth} bit, colour type {header.colour}"
        raise RefusedFilm("UnreadableImage", f"the PNG file's header makes no picture: {said}")
    check_size(header.rows, header.columns)
    return header


def _check_checksums(data: bytes, chunks: Sequence[Chunk], what: str) -> None:
    """Raises RefusedFilm (TruncatedImage) where a chunk is not as it was written; of pixels, Pillow does not look."""
    if chunks[-1].end + 4 > len(data):
        raise RefusedFilm("TruncatedImage", f"the PNG file is cut short, in its {what}")
    if not all(_intact(data, chunk) for chunk in chunks):
        raise RefusedFilm("TruncatedImage", f"the PNG file is damaged: a checksum of its {what} is wrong")


def _intact(data: bytes, chunk: Chunk) -> bool:
    checksum = data[chunk.end : chunk.end + 4]
    return zlib.crc32(memoryview(data)[chunk.start - 4 : chunk.end]).to_bytes(4, "big") == checksum


def _content_of(data: bytes, chunks: Sequence[Chunk], name: bytes) -> bytes:
    """Of the first chunk of that name; nothing where there is none, or it is damaged."""
    found = next((chunk for chunk in chunks if chunk.name == name and _intact(data, chunk)), None)
    return data[found.start : found.end] if found else b""


def _frames(data: bytes, before: Sequence[Chunk]) -> int:
    """How many pictures a file shows. An animation's first is the file's own only where a frame says so (11.3.6)."""
    control = _content_of(data, before, b"acTL")
    if len(control) != 8:
        return 1
    return int.from_bytes(control[:4], "big") + (not _content_of(data, before, b"fcTL"))


def _colours(data: bytes, before: Sequence[Chunk], header: Header) -> list[Chunk]:
    """The palette and transparency, where the pixels have use for them. As in libpng, damaged transparency is none."""
    kept = []
    if header.colour == 3:
        palettes = [chunk for chunk in before if chunk.name == b"PLTE"]
        if not palettes or not 3 <= (size := palettes[0].end - palettes[0].start) <= 768 or size % 3:
            raise RefusedFilm("UnreadableImage", "the PNG file has no palette for its pixels")
        _check_checksums(data, palettes[:1], "palette")
        kept.append(palettes[0])
    least = _TRANSPARENCY.get(header.colour, 257)
    tables = (one for one in before if one.name == b"tRNS" and least <= one.end - one.start <= 256)
    kept += [one for one in tables if _intact(data, one)]
    return kept[:2] if header.colour == 3 else kept[:1]


def _check_last_row(data: bytes, pixels: Sequence[Chunk], header: Header, picture: Image.Image) -> None:
    """Raises RefusedFilm (TruncatedImage) for a file that holds fewer rows than it says.

    Where its compressed stream ends in order but too soon, Pillow leaves the rest black and says nothing. So a black
    last row, or a film sent in seven passes, is counted.
    """
    if not header.interlaced and np.asarray(picture.crop((0, header.rows - 1, header.columns, header.rows))).any():
        return
    bits = header.depth * _CHANNELS[header.colour]
    wanted = sum(high * (1 + -(-wide * bits // 8)) for high, wide in _passes(header) if wide)
    inflater, held = zlib.decompressobj(), 0
    for chunk in pixels:
        held += len(inflater.decompress(data[chunk.start : chunk.end], wanted - held))
        if held == wanted:
            return
    raise RefusedFilm("TruncatedImage", f"the PNG file holds {held} bytes of pixels, not {wanted}")


def _passes(header: Header) -> list[tuple[int, int]]:
    """Rows and columns of each of Adam7's passes (8.1), or of the one."""
    if not header.interlaced:
        return [(header.rows, header.columns)]
    steps = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    return [
        (len(range(top, header.rows, down)), len(range(left, header.columns, across)))
        for top, down, left, across in steps
    ]
