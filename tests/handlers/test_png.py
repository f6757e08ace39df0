"""PNG files: the pixels as they are in every layout, whatever is stored beside them, and all of them or none."""

import struct
import time
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from handlers.decoding.containers import PNG
from handlers.decoding.image import read_film
from tests.handlers.picture_files import NOISE, WEDGE, beside, chunk, encoded, exif, png, refused, rows_of, segment

FILM = encoded(Image.fromarray(WEDGE))
SQUARE = WEDGE[:, 64:128]
"""64 x 64 px of 64 greys."""
MB = 2**20


def interlaced(film: NDArray[np.uint8]) -> bytes:
    """A PNG file in Adam7's seven passes (PNG, 8.1), which Pillow reads and does not write."""
    steps = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    passes = [film[top::down, left::across] for top, down, left, across in steps]
    rows = b"".join(b"\0" + row.tobytes() for one in passes for row in one)
    return png(8, 0, len(film), rows, interlaced=True)


def with_wrong_sum(whole: bytes) -> bytes:
    return whole[:-1] + bytes([whole[-1] ^ 1])


# Layouts


def test_grey_png_is_read_pixel_for_pixel() -> None:
    assert (read_film(FILM) == WEDGE).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_films_in_colour_modes_keep_their_grey(mode: str) -> None:
    assert (read_film(encoded(Image.fromarray(WEDGE).convert(mode))) == WEDGE).all()


def test_greys_of_4_bit_are_spread_over_the_range() -> None:
    packed = np.tile(np.arange(16, dtype=np.uint8) * 17, (64, 2))  # two pixels a byte, 16 greys
    film = read_film(png(4, 0, 64, b"".join(b"\0" + row.tobytes() for row in packed)))
    assert (film == np.repeat(packed, 2, axis=1)).all()


def test_16_bit_png_is_scaled_not_clipped() -> None:
    """PNG's 16-bit samples are big-endian."""
    assert (read_film(encoded(Image.fromarray(WEDGE.astype(np.uint16) * 257))) == WEDGE).all()
    between = SQUARE.astype(np.uint16) * 257 + 256
    assert (read_film(png(16, 0, 64, rows_of(between))) == SQUARE).all()


@pytest.mark.parametrize("kind", [2, 4, 6], ids=["RGB", "grey and alpha", "RGBA"])
def test_16_bit_png_of_several_channels_is_read(kind: int) -> None:
    samples = np.repeat(SQUARE[..., None].astype(np.uint16) * 257, {2: 3, 4: 2, 6: 4}[kind], axis=2)
    assert (read_film(png(16, kind, 64, rows_of(samples))) == SQUARE).all()


def test_interlaced_png_is_read_pixel_for_pixel() -> None:
    film = np.arange(64 * 64, dtype=np.uint32).reshape(64, 64).astype(np.uint8)
    assert (read_film(interlaced(film)) == film).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_pixel_keeps_its_grey_until_it_is_fully_transparent(mode: str) -> None:
    picture = Image.fromarray(WEDGE).convert(mode)
    alpha = np.full_like(WEDGE, 255)
    alpha[:, 100:200] = 1
    alpha[:, 200:] = 0
    picture.putalpha(Image.fromarray(alpha))
    film = read_film(encoded(picture))
    assert (film[:, :200] == WEDGE[:, :200]).all()
    assert (film[:, 200:] == 0).all()


def test_a_transparent_palette_entry_is_black() -> None:
    picture = Image.fromarray(WEDGE).convert("P")
    film = read_film(encoded(picture, transparency=255))
    assert (film[:, :255] == WEDGE[:, :255]).all()
    assert (film[:, 255] == 0).all()


@pytest.mark.parametrize("palette", [b"", chunk(b"PLTE", bytes(4)), chunk(b"PLTE", bytes(771))])
def test_pixels_without_a_palette_for_them_are_refused(palette: bytes) -> None:
    assert "palette" in refused(png(8, 3, 64, rows_of(SQUARE), palette)).message


# Values of fewer bits than the file has room for


@pytest.mark.parametrize(
    ("bits", "highest"), [(12, 4095), (12, 3000), (12, 1024), (14, 16_383), (14, 9000), (14, 4096)]
)
def test_a_detector_s_values_in_16_bit_are_read_as_such_with_a_warning(
    bits: int, highest: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As they stand they are a sixteenth or a quarter as bright as a person who looks at the film should see it."""
    values = (SQUARE - 64).astype(np.uint16) * (highest // 63)
    values[0, 0] = highest
    film = read_film(png(16, 0, 64, rows_of(values)))
    assert (film == values.astype(int) * 255 // (2**bits - 1)).all()
    assert f"a 16-bit PNG holds values of {bits} bit" in caplog.text
    assert "scale them to 65535" in caplog.text


def test_a_file_that_says_how_many_bits_are_in_use_is_believed(caplog: pytest.LogCaptureFixture) -> None:
    values = (SQUARE - 64).astype(np.uint16) * 12  # up to 756
    film = read_film(png(16, 0, 64, rows_of(values), chunk(b"sBIT", b"\x0a")))
    assert (film == values.astype(int) * 255 // 1023).all()
    assert "values of 10 bit" in caplog.text
    assert refused(png(16, 0, 64, rows_of(values))).type == "BlankImage"
    assert refused(png(16, 0, 64, rows_of(values), with_wrong_sum(chunk(b"sBIT", b"\x0a")))).type == "BlankImage"


@pytest.mark.parametrize("significant", [0, 1, 11, 16, 255])
def test_a_number_of_bits_that_the_values_do_not_fit_is_not_believed(significant: int) -> None:
    values = (SQUARE - 64).astype(np.uint16) * 65  # up to 4095
    film = read_film(png(16, 0, 64, rows_of(values), chunk(b"sBIT", bytes([significant]))))
    assert (film == values.astype(int) * 255 // 4095).all()


@pytest.mark.parametrize("kind", [2, 4], ids=["RGB", "grey and alpha"])
def test_a_detector_s_values_in_16_bit_of_several_channels_are_refused(kind: int) -> None:
    """As they stand they are nearly black, and nobody keeps a detector's values in channels."""
    samples = np.repeat((SQUARE - 64)[..., None].astype(np.uint16) * 65, {2: 3, 4: 2}[kind], axis=2)
    fault = refused(png(16, kind, 64, rows_of(samples)))
    assert fault.type == "BlankImage"
    assert "Are its values scaled" in fault.message


def test_a_film_of_16_bit_is_read_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    values = (SQUARE - 64).astype(np.uint16) * 261  # up to 16443: dark, but of no detector of 14 bit
    assert (read_film(png(16, 0, 64, rows_of(values))) == values // 257).all()
    assert (read_film(png(16, 0, 64, rows_of(values * 3), chunk(b"sBIT", b"\x0c"))) == values * 3 // 257).all()
    assert not caplog.text


# What is stored beside the pixels


def compressed(name: bytes, size: int) -> bytes:
    head = {b"iCCP": b"icc\0\0", b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0"}[name]
    return chunk(name, head + zlib.compress(bytes(size), 9))


BESIDE = {
    "a profile of 3 MB": chunk(b"iCCP", b"icc\0\0" + zlib.compress(np.random.default_rng(0).bytes(3 * MB))),
    "a profile that inflates to 200 MB": compressed(b"iCCP", 200 * MB),
    "words that inflate to 200 MB": compressed(b"zTXt", 200 * MB),
    "international words that inflate to 64 MB": compressed(b"iTXt", 64 * MB),
    "words of 20 MB": chunk(b"tEXt", b"Comment\0" + b"x" * (20 * MB)),
    "words of 70 MB in all": compressed(b"zTXt", MB) * 70,
    "5000 words": chunk(b"tEXt", b"Comment\0word") * 5000,
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='6'/>" + b" " * MB),
    "words by another compression": chunk(b"zTXt", b"Comment\0\7" + bytes(9)),
    "a profile by another compression": chunk(b"iCCP", b"icc\0\7" + bytes(9)),
    "a profile without content": chunk(b"iCCP", b""),
    "a profile that does not inflate": chunk(b"iCCP", b"icc\0\0" + b"\xff" * 1000),
    "words without a key": chunk(b"tEXt", b""),
    "words that are no UTF-8": chunk(b"iTXt", b"\xff\0\0\0\xff\0\xff\0\xff"),
    "an old EXIF block": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 9\nno hex\n")),
    "an EXIF block that is none": chunk(b"eXIf", b"\xff" * 1000),
    "an EXIF block cut short": chunk(b"eXIf", exif(6)[:14]),
    "an EXIF block that ends before it begins": chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"),
    "an EXIF block of an orientation that is none": chunk(b"eXIf", exif(9)),
    "a thumbnail": chunk(b"eXIf", exif(1) + encoded(NOISE, "JPEG", progressive=True) * 50),
    "private chunks": chunk(b"prVt", b"\0" * MB) + chunk(b"vpAg", b"") + chunk(b"prVt", b"again"),
    "a critical chunk of nobody": chunk(b"ABCD", b"\0" * 100),
    "a chunk whose name is none": chunk(b"\xff\0\1\2", b"\0" * 100),
    "another header": chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 16, 6, 0, 0, 1)),
    "a palette of no use": chunk(b"PLTE", bytes(4)),
    "gamma, chromaticity and size cut short": b"".join(
        chunk(name, b"\1") for name in (b"gAMA", b"cHRM", b"pHYs", b"sRGB")
    ),
    "transparency cut short": chunk(b"tRNS", b"\0"),
    "an animation of one frame": chunk(b"acTL", struct.pack(">II", 1, 0)) + chunk(b"fcTL", bytes(26)),
    "an animation of no frame": chunk(b"acTL", struct.pack(">II", 0, 0)),
    "an animation cut short": chunk(b"acTL", b"\0\0"),
}


@pytest.mark.parametrize("stored", BESIDE.values(), ids=BESIDE)
def test_what_is_stored_beside_the_pixels_is_left_alone(stored: bytes) -> None:
    np.testing.assert_array_equal(read_film(beside(FILM, stored)), WEDGE)
    np.testing.assert_array_equal(read_film(FILM[:-12] + stored + FILM[-12:]), WEDGE)  # after them


@pytest.mark.parametrize("name", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"gAMA", b"tRNS", b"acTL", b"prVt"])
def test_a_checksum_that_is_wrong_beside_the_pixels_does_not_matter(name: bytes) -> None:
    damaged = with_wrong_sum(chunk(name, b"\0\0\0\2\0\0\0\0" * 4))
    np.testing.assert_array_equal(read_film(beside(FILM, damaged)), WEDGE)
    np.testing.assert_array_equal(read_film(FILM[:-12] + damaged + FILM[-12:]), WEDGE)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_rotated_film_is_turned_upright_wherever_its_file_says_so(order: str) -> None:
    block = chunk(b"eXIf", exif(6, order))
    for film in (beside(FILM, block), FILM[:-12] + block + FILM[-12:]):
        assert (read_film(film) == np.rot90(WEDGE, -1)).all()
    assert (read_film(beside(FILM, with_wrong_sum(block))) == WEDGE).all()


def test_a_profile_between_the_pixels_is_left_alone() -> None:
    """By the standard the chunks of the pixels follow one another; some writers do not know."""
    packed = zlib.compress(rows_of(SQUARE))
    whole = png(8, 0, 64, rows_of(SQUARE))
    parted = chunk(b"IDAT", packed[:20]) + chunk(b"tEXt", b"Comment\0word") + chunk(b"IDAT", packed[20:])
    assert (read_film(whole.replace(chunk(b"IDAT", packed), parted)) == SQUARE).all()


@pytest.mark.parametrize(
    "after",
    [
        b"\0" * MB,
        b"\xff" * 1000,
        b"PK\3\4" + bytes(1000),
        encoded(NOISE, "JPEG"),
        FILM,
        chunk(b"IDAT", b"more") + chunk(b"IHDR", b""),
        segment(0xE1, b"Exif\0\0"),
        chunk(b"tEXt", b"") * 100_000,
    ],
    ids=["zeros", "ones", "ZIP", "JPEG", "itself", "chunks", "segment", "100,000 chunks"],
)
def test_what_follows_the_end_is_left_alone(after: bytes) -> None:
    np.testing.assert_array_equal(read_film(FILM + after), WEDGE)


def test_a_film_without_its_end_chunk_is_read() -> None:
    np.testing.assert_array_equal(read_film(FILM[:-12]), WEDGE)
    np.testing.assert_array_equal(read_film(FILM[:-12] + chunk(b"tEXt", bytes(100))[:50]), WEDGE)


def test_an_animation_is_no_radiograph() -> None:
    frames = [Image.fromarray(WEDGE), Image.fromarray(WEDGE[::-1, ::-1].copy())]
    moving = encoded(frames[0], save_all=True, append_images=frames[1:])
    apart = encoded(frames[0], save_all=True, append_images=frames[1:], default_image=True)
    for data in (moving, apart, beside(FILM, chunk(b"acTL", struct.pack(">II", 1, 0)))):
        fault = refused(data)
        assert fault.type == "NotARadiograph"
        assert "2 frames" in fault.message


# All of the pixels


def test_a_film_cut_anywhere_in_its_pixels_is_truncated() -> None:
    film = encoded(NOISE)
    for at in (*range(1, 60), *range(60, len(film) - 12, 97), len(film) - 13):
        assert refused(film[:at]).type == "TruncatedImage", at


@pytest.mark.parametrize("rows", [0, 1, 20, 63])
def test_a_png_that_holds_fewer_rows_than_it_says_is_truncated(rows: int) -> None:
    """Its stream ends in order; the decoder would leave the rest black."""
    assert refused(png(8, 0, 64, rows_of(SQUARE[:rows]))).type == "TruncatedImage"
    assert (read_film(png(8, 0, 64, rows_of(SQUARE))) == SQUARE).all()


def test_an_interlaced_png_without_its_last_pass_is_truncated() -> None:
    whole = interlaced(SQUARE)
    place = whole.index(b"IDAT")
    passes = zlib.decompress(whole[place + 4 : place + 4 + int.from_bytes(whole[place - 4 : place], "big")])
    assert refused(png(8, 0, 64, passes[: -32 * 65], interlaced=True)).type == "TruncatedImage"


def test_a_film_with_a_black_last_row_is_whole() -> None:
    film = WEDGE.copy()
    film[-1] = 0
    assert (read_film(encoded(Image.fromarray(film))) == film).all()
    assert (read_film(encoded(Image.fromarray(film).convert("RGB"))) == film).all()


def test_a_damaged_chunk_is_a_damaged_film() -> None:
    data = bytearray(encoded(NOISE))
    data[data.index(b"IDAT") + 500] ^= 0xFF
    assert refused(bytes(data)).type == "TruncatedImage"


@pytest.mark.parametrize(("name", "what"), [(b"IDAT", "pixels"), (b"IHDR", "header"), (b"PLTE", "palette")])
def test_what_the_picture_needs_must_match_its_checksum(name: bytes, what: str) -> None:
    whole = encoded(Image.fromarray(WEDGE).convert("P"))
    place = whole.index(name)
    end = place + 4 + int.from_bytes(whole[place - 4 : place], "big")
    for at in (end, end + 3):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        fault = refused(bytes(damaged))
        assert fault.type == "TruncatedImage"
        assert f"a checksum of its {what} is wrong" in fault.message


@pytest.mark.parametrize(
    "header", [(8, 5, 0, 0, 0), (3, 0, 0, 0, 0), (16, 3, 0, 0, 0), (8, 0, 1, 0, 0), (8, 0, 0, 1, 0), (8, 0, 0, 0, 2)]
)
def test_a_header_that_makes_no_picture_is_refused(header: tuple[int, ...]) -> None:
    start = PNG + chunk(b"IHDR", struct.pack(">II5B", 64, 64, *header))
    fault = refused(start + chunk(b"IDAT", zlib.compress(rows_of(SQUARE))) + chunk(b"IEND", b""))
    assert fault.type == "UnreadableImage"
    assert "header" in fault.message


# Within limits


@pytest.mark.parametrize("name", [b"IDAT", b"tEXt", b"noNe"])
def test_a_png_of_chunks_without_end_is_refused_in_time(name: bytes) -> None:
    """Twelve bytes a chunk: the decoder's walk over 60 MB would take half a minute."""
    begun = time.thread_time()
    fault = refused(png(8, 0, 64, rows_of(SQUARE), chunk(name, b"") * (60 * MB // 12)))
    assert fault.type == "UnreadableImage"
    assert "chunks" in fault.message
    assert time.thread_time() - begun < 5


@pytest.mark.parametrize("size", [(20000, 20000), (100_000, 64), (64, 10_001), (9000, 9000)])
def test_a_decompression_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    start = PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 1, 0, 0, 0, 0))
    fault = refused(start + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    assert (fault.type, fault.code) == ("ImageTooLarge", 413)
