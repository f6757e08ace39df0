"""JPEG files: the first picture, whatever is stored beside it, and all of it or none."""

import struct
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from pydicom import uid

from handlers.decoding.image import read_film
from tests.handlers.dicom_files import compressed
from tests.handlers.picture_files import NOISE, WEDGE, beside, encoded, exif, refused, segment

FILM = encoded(Image.fromarray(WEDGE), "JPEG")
READ = np.asarray(Image.open(BytesIO(FILM)))
THUMBNAIL = encoded(NOISE, "JPEG", progressive=True)
"""With some ten scans of its own."""
MB = 2**20
LAYOUTS = {
    "baseline": ("L", {}),
    "optimised": ("L", {"optimize": True}),
    "progressive": ("L", {"progressive": True}),
    "restart markers": ("L", {"restart_marker_blocks": 3}),
    "colour": ("RGB", {}),
    "colour, progressive": ("RGB", {"progressive": True, "restart_marker_rows": 1}),
    "CMYK": ("CMYK", {}),
}


def film_as(layout: str) -> bytes:
    """A film of noise, whose every block counts."""
    mode, options = LAYOUTS[layout]
    return encoded(NOISE.convert(mode), "JPEG", quality=90, **options)


def in_segments(marker: int, content: bytes, head: bytes = b"") -> bytes:
    """As many segments as it takes, each beginning with ``head``."""
    most = 65_533 - len(head)
    return b"".join(segment(marker, head + content[at : at + most]) for at in range(0, len(content), most))


def colour_profile(size: int) -> bytes:
    parts = -(-size // 60_000)
    return b"".join(
        segment(0xE2, b"ICC_PROFILE\0" + bytes((part % 256, parts % 256)) + bytes(60_000))
        for part in range(1, parts + 1)
    )


# Layouts


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_grey_jpeg_is_read_in_every_mode(mode: str, options: dict[str, bool]) -> None:
    for quality, error in ((90, 2), (10, 6)):
        film = read_film(encoded(Image.fromarray(WEDGE).convert(mode), "JPEG", quality=quality, **options))
        assert np.abs(film.astype(int) - WEDGE).mean() < error


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_pixels_are_those_of_a_plain_decoder(layout: str) -> None:
    data = film_as(layout)
    plain = Image.open(BytesIO(data))
    np.testing.assert_array_equal(read_film(data), plain.convert("RGB").convert("L") if plain.mode != "L" else plain)


def test_the_colours_of_a_file_without_marks_are_guessed_as_ever() -> None:
    """Neither JFIF nor Adobe: three components called R, G and B are those."""
    data = encoded(Image.fromarray(WEDGE).convert("RGB"), "JPEG", keep_rgb=True)
    assert np.abs(read_film(data).astype(int) - WEDGE).mean() < 2
    place = data.index(b"\xff\xee")
    without = data[:place] + data[place + 16 :]
    assert np.abs(read_film(without).astype(int) - WEDGE).mean() < 2


@pytest.mark.parametrize(("marker", "said"), [(0xC3, "a lossless JPEG"), (0xF7, "a JPEG-LS"), (0xC5, "hierarchical")])
def test_a_process_that_is_not_read_is_named(marker: int, said: str) -> None:
    fault = refused(FILM.replace(b"\xff\xc0", bytes((0xFF, marker)), 1))
    assert fault.type == "UnreadableImage"
    assert said in fault.message


def test_12_bit_and_a_number_of_components_that_is_none_are_named() -> None:
    place = FILM.index(b"\xff\xc0")
    assert "12 bit" in refused(FILM[: place + 4] + b"\x0c" + FILM[place + 5 :]).message
    two = segment(0xC0, FILM[place + 4 : place + 9] + b"\2" + b"\1\x11\0\2\x11\0")
    assert "2 components" in refused(FILM[:place] + two + FILM[place + 13 :]).message


@pytest.mark.parametrize(("marker", "what"), [(b"\xff\xc0", "frame"), (b"\xff\xda", "scan")])
@pytest.mark.parametrize("content", [b"", b"\1", b"\xff" * 9])
def test_a_header_that_makes_no_sense_is_damage(marker: bytes, what: str, content: bytes) -> None:
    place = FILM.index(marker)
    end = place + 2 + int.from_bytes(FILM[place + 2 : place + 4], "big")
    fault = refused(FILM[:place] + segment(marker[1], content) + FILM[end:])
    assert fault.type == "TruncatedImage"
    assert f"header of {'its frame' if what == 'frame' else 'a scan'}" in fault.message


# What is stored beside the picture


BESIDE = {
    "a colour profile of 3 MB": colour_profile(3 * MB),
    "a colour profile of 55 MB": colour_profile(55 * MB),
    "a colour profile in part": segment(0xE2, b"ICC_PROFILE\0\2\7" + bytes(100)),
    "XMP of 2 MB": in_segments(0xE1, b" " * (2 * MB), b"http://ns.adobe.com/xmp/extension/\0"),
    "XMP that turns": segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'),
    "a thumbnail": segment(0xE1, b"Exif\0\0" + exif(1) + THUMBNAIL),
    "50 thumbnails": segment(0xE1, b"Exif\0\0" + exif(1) + THUMBNAIL) * 50,
    "Photoshop's, cut short": segment(0xED, b"Photoshop 3.0\08BIM"),
    "comments": in_segments(0xFE, b"word" * MB),
    "3000 comments": segment(0xFE, b"") * 3000,
    "scan markers in comments": segment(0xFE, b"\xff\xda" * 1000),
    "end markers in comments": segment(0xFE, b"\xff\xd9" * 1000),
    "further pictures that are not there": segment(0xE2, b"MPF\0MM\0*\0\0\0\x08" + bytes(100)),
    "a JFIF segment cut short": segment(0xE0, b"JFIF\0"),
    "a JFIF thumbnail": segment(0xE0, b"JFXX\0\x10" + THUMBNAIL),
    "another JFIF revision": segment(0xE0, b"JFIF\0\7\7\0\0\1\0\1\0\0"),
    "an Adobe segment cut short": segment(0xEE, b"Adobe"),
    "an Adobe segment of a transform of nobody": segment(0xEE, b"Adobe\0\x64\0\0\0\0\x77"),
    "an EXIF block that is none": segment(0xE1, b"Exif\0\0" + b"\xff" * 1000),
    "an EXIF block cut short": segment(0xE1, b"Exif\0\0" + exif(6)[:14]),
    "an EXIF block of an orientation that is none": segment(0xE1, b"Exif\0\0" + exif(0)),
    "an EXIF block without end": segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(12) * 5000),
    "content credentials": in_segments(0xEB, bytes(MB), b"JP"),
    "fill bytes": b"\xff" * MB,
}


@pytest.mark.parametrize("stored", BESIDE.values(), ids=BESIDE)
def test_what_is_stored_beside_the_picture_is_left_alone(stored: bytes) -> None:
    np.testing.assert_array_equal(read_film(beside(FILM, stored)), READ)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_rotated_film_is_turned_upright(order: str) -> None:
    turned = beside(FILM, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0"), segment(0xE1, b"Exif\0\0" + exif(6, order)))
    np.testing.assert_array_equal(read_film(turned), np.rot90(READ, -1))


@pytest.mark.parametrize(
    "after",
    [b"\0" * MB, b"\xff" * MB, b"PK\3\4" + bytes(1000), THUMBNAIL, FILM, b"\xff\xda\0\x08" * 1000, b"\xff\xd9"],
    ids=["zeros", "ones", "ZIP", "JPEG", "itself", "scans", "another end"],
)
def test_what_follows_the_end_is_left_alone(after: bytes) -> None:
    np.testing.assert_array_equal(read_film(FILM + after), READ)


def test_of_several_pictures_the_first_is_read() -> None:
    """As viewers do: a multi-picture file (CIPA DC-007) is one that others follow."""
    others = [Image.fromarray(WEDGE[::-1, ::-1].copy()), NOISE]
    data = encoded(Image.fromarray(WEDGE), "MPO", save_all=True, append_images=others)
    assert Image.open(BytesIO(data)).n_frames == 3
    np.testing.assert_array_equal(read_film(data), READ)


# All of the picture


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_film_that_lacks_only_its_end_marker_is_read(layout: str) -> None:
    whole = film_as(layout)
    for cut in (1, 2):
        np.testing.assert_array_equal(read_film(whole[:-cut]), read_film(whole))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("end", [b"", b"\xff\xd9", b"\0" * 100_000], ids=["cut", "ended", "filled up"])
def test_a_film_cut_anywhere_else_is_truncated(layout: str, end: bytes) -> None:
    """An end marker makes it no whole film, and zero bytes, as of a transfer that was broken off, do not either."""
    whole = film_as(layout)
    begun = whole.index(b"\xff\xda")
    places = {
        *range(3, begun, 29),
        *range(begun, len(whole) - 6, len(whole) // 60),
        *range(len(whole) - 8, len(whole) - 2),
    }
    for at in places:
        assert refused(whole[:at] + end).type == "TruncatedImage", at


def test_a_progressive_film_without_its_last_scan_is_truncated() -> None: ...


def test_a_frame_inside_dicom_is_whole_or_refused_as_well() -> None:
    grey = np.asarray(NOISE)
    whole = encoded(NOISE, "JPEG", quality=90)
    with_profile = beside(whole, colour_profile(MB), segment(0xE1, b"Exif\0\0" + exif(6)))
    for frame in (whole, whole[:-2], with_profile):
        film = read_film(compressed(grey, 8, uid.JPEGBaseline8Bit, frame, WindowCenter=128, WindowWidth=256))
        np.testing.assert_array_equal(film, np.asarray(Image.open(BytesIO(whole))))
    for frame in (whole[:-900], whole[:-900] + b"\xff\xd9"):
        assert refused(compressed(grey, 8, uid.JPEGBaseline8Bit, frame)).type == "TruncatedImage"


def test_zero_bytes_before_the_end_marker_are_padding() -> None:
    np.testing.assert_array_equal(read_film(FILM[:-2] + bytes(500) + FILM[-2:]), READ)


def test_pixels_that_are_left_over_are_damage() -> None:
    fault = refused(FILM[:-2] + b"\x5a" * 500 + FILM[-2:])
    assert fault.type == "TruncatedImage"
    assert "extraneous bytes" in fault.message


def test_a_scan_whose_parameters_mean_nothing_is_read() -> None:
    """Of a sequential scan the range of coefficients is fixed (T.81, table B.3); some writers leave it at zero."""
    place = FILM.index(b"\xff\xda") + 2 + int.from_bytes(FILM[FILM.index(b"\xff\xda") + 2 :][:2], "big")
    np.testing.assert_array_equal(read_film(FILM[: place - 3] + b"\0\0\0" + FILM[place:]), READ)


def test_a_damaged_scan_is_a_damaged_film() -> None:
    whole = film_as("restart markers")
    place = whole.index(b"\xff\xd1")
    assert refused(whole[:place] + b"\xff\xd5" + whole[place + 2 :]).type == "TruncatedImage"


# Within limits


def test_a_jpeg_of_scans_without_end_is_refused() -> None:
    """Each scan of a progressive JPEG walks over the whole picture; a few bytes ask for one more."""
    data = encoded(Image.fromarray(WEDGE), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    fault = refused(data[:last] + data[last:-2] * 5000 + data[-2:])
    assert fault.type == "UnreadableImage"
    assert "scans" in fault.message


def test_a_jpeg_of_segments_without_end_is_refused_in_time() -> None:
    begun = time.thread_time()
    fault = refused(beside(FILM, b"\xff\xfe\0\2" * (60 * MB // 4)))
    assert fault.type == "UnreadableImage"
    assert "segments" in fault.message
    assert time.thread_time() - begun < 5


@pytest.mark.parametrize(("columns", "rows"), [(65_500, 65_500), (10_001, 64), (9000, 9000)])
def test_a_picture_too_large_is_refused_by_its_header(columns: int, rows: int) -> None:
    place = FILM.index(b"\xff\xc0")
    fault = refused(FILM[: place + 5] + struct.pack(">HH", rows, columns) + FILM[place + 9 :])
    assert (fault.type, fault.code) == ("ImageTooLarge", 413)


def test_a_segment_that_goes_beyond_the_file_is_refused() -> None:
    assert "segment" in refused(beside(FILM, b"\xff\xe1\xff\xff")).message
