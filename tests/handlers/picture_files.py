"""PNG and JPEG files for the tests, whole or put together piece by piece."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from handlers.decoding.containers import PNG
from handlers.decoding.image import read_film
from handlers.refusals import CODES, RefusedFilm

WEDGE = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
NOISE = Image.effect_noise((64, 64), 50)


def encoded(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(depth: int, kind: int, side: int, rows: bytes, *others: bytes, interlaced: bool = False) -> bytes:
    """A PNG file written chunk by chunk; ``rows`` as they are before compression, ``others`` before the pixels."""
    header = struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + b"".join(others) + chunk(b"IDAT", zlib.compress(rows))
    return PNG + chunks + chunk(b"IEND", b"")


def rows_of(samples: NDArray[np.integer]) -> bytes:
    """[H, W] or [H, W, C] as PNG has them before compression: unfiltered, most significant byte first."""
    return b"".join(b"\0" + row.astype(samples.dtype.newbyteorder(">")).tobytes() for row in samples)


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def exif(orientation: int, order: str = ">") -> bytes:
    """A block with nothing but an orientation, without its ``Exif`` mark."""
    return {">": b"MM\0*", "<": b"II*\0"}[order] + struct.pack(
        f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0
    )


def beside(film: bytes, *stored: bytes) -> bytes:
    """A film's file with chunks or segments more: after a PNG's header, or at a JPEG's beginning."""
    place = 33 if film.startswith(PNG) else 2
    return film[:place] + b"".join(stored) + film[place:]


def refused(data: bytes) -> RefusedFilm:
    with pytest.raises(RefusedFilm) as caught:
        read_film(data)
    assert caught.value.message
    assert "Error" not in caught.value.message
    assert caught.value.code == CODES[caught.value.type]
    return caught.value
