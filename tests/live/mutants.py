"""Real films of every encoding that is read, and what Hypothesis makes of them."""

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import uid
from pydicom.data import get_testdata_file

from handlers.decoding.containers import PNG

DICOM_FILES = (
    *("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm", "image_dfl.dcm"),
    *("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPGExtended.dcm", "JPEG-LL.dcm", "vlut_04.dcm"),
    *("JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm", "RG3_J2KI.dcm", "CT_small.dcm", "693_J2KR.dcm"),
)
"""pydicom's and pydicom-data's: every transfer syntax that is read. They become CR films."""


def real_films(drawn: list[Path], nih: Path) -> dict[str, bytes]:
    """Name -> file. The NIH films are large, so a few of those are enough, where they are there."""
    films = {path.name: path.read_bytes() for path in (*drawn[:3], *sorted(nih.rglob("*.png"))[:2])}
    films |= pictures(Image.open(drawn[3]).resize((512, 512)))
    return films | {name: as_radiograph(name) for name in DICOM_FILES}


def pictures(film: Image.Image) -> dict[str, bytes]:
    """One film as PNG and JPEG in every mode."""
    wide = Image.fromarray(np.asarray(film, np.uint16) * 257)
    grey_with_alpha = Image.merge("LA", (film, Image.new("L", film.size, 200)))
    turned = Image.Exif()
    turned[0x0112] = 6
    pngs = {"1": film.convert("1"), "P": film.convert("P"), "16": wide, "LA": grey_with_alpha}
    pngs |= {"RGB": film.convert("RGB"), "RGBA": grey_with_alpha.convert("RGBA")}
    jpegs = {"baseline": (film, {}), "progressive": (film, {"progressive": True}), "turned": (film, {"exif": turned})}
    jpegs |= {"colour": (film.convert("RGB"), {}), "CMYK": (film.convert("CMYK"), {"restart_marker_rows": 4})}
    return {f"{name}.png": saved(picture, "PNG") for name, picture in pngs.items()} | {
        f"{name}.jpg": saved(picture, "JPEG", **options) for name, (picture, options) in jpegs.items()
    }


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def as_radiograph(name: str) -> bytes:
    """One of pydicom's files, said to be a CR film."""
    dataset = pydicom.dcmread(str(get_testdata_file(name, download=False)))
    dataset.Modality, dataset.SOPClassUID = "CR", uid.ComputedRadiographyImageStorage
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


@dataclass(frozen=True)
class Edit:
    """One change: ``kind`` at ``place``, which wraps round at the file's end."""

    kind: str
    place: int
    value: int
    length: int

    def apply(self, body: bytes) -> bytes:
        at = self.place % (len(body) + 1)
        return EDITS[self.kind](body, at, self.value, self.length)


EDITS: Mapping[str, Callable[[bytes, int, int, int], bytes]] = {
    "flip": lambda body, at, value, _: (
        body[:at] + bytes([body[at] ^ (value & 0xFF or 1)]) + body[at + 1 :] if at < len(body) else body
    ),
    "cut": lambda body, at, _, __: body[:at],
    "drop": lambda body, at, _, length: body[:at] + body[at + length :],
    "repeat": lambda body, at, _, length: body[:at] + body[at : at + length] * 3 + body[at + length :],
    "fill": lambda body, at, value, length: body[:at] + bytes([value & 0xFF]) * length + body[at + length :],
    "big endian": lambda body, at, value, _: body[:at] + struct.pack(">I", value) + body[at + 4 :],
    "little endian": lambda body, at, value, _: body[:at] + struct.pack("<I", value) + body[at + 4 :],
    "short": lambda body, at, value, _: body[:at] + struct.pack("<H", value & 0xFFFF) + body[at + 2 :],
    "move": lambda body, at, value, length: body[:at] + body[value % (len(body) + 1) :][:length] + body[at:],
}


@dataclass(frozen=True)
class Mutant:
    """A recipe that makes a body out of a real film, short enough to be read in a failure.

    Args:
        film: its name.
        edits: in their order.
        mended: whether a PNG's checksums are made good again, so that a decoder goes on to what they guard.
    """

    film: str
    edits: tuple[Edit, ...]
    mended: bool

    def body(self, films: Mapping[str, bytes]) -> bytes:
        body = films[self.film]
        for edit in self.edits:
            body = edit.apply(body)
        return mend(body) if self.mended else body


def mend(body: bytes) -> bytes:
    """The same PNG with the checksum that each chunk should have."""
    if not body.startswith(PNG):
        return body
    parts, place = [PNG], len(PNG)
    while place + 12 <= len(body):
        end = place + 8 + int.from_bytes(body[place : place + 4], "big")
        checksum = zlib.crc32(body[place + 4 : end])
        parts += [body[place:end], checksum.to_bytes(4, "big")]
        place = end + 4
    return b"".join(parts)


def mutants(films: Mapping[str, bytes], number: int) -> list[Mutant]:
    """The same ones every time; one edit in two is in the header, where the structure is."""
    place = st.one_of(st.integers(0, 1200), st.integers(0, 2**24))
    value = st.one_of(st.sampled_from((0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)), st.integers(0, 2**32 - 1))
    edit = st.builds(Edit, st.sampled_from(sorted(EDITS)), place, value, st.integers(1, 2000))
    edits = st.lists(edit, min_size=1, max_size=3).map(tuple)
    found: list[Mutant] = []

    @settings(max_examples=number, derandomize=True, database=None, deadline=None, phases=(Phase.generate,))
    @given(st.builds(Mutant, st.sampled_from(sorted(films)), edits, st.booleans()))
    def collect(mutant: Mutant) -> None:
        found.append(mutant)

    collect()
    return found
