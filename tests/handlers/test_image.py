"""The decoder reads PNG and JPEG films as they are, and refuses by name what is none."""

import struct
import time
import zlib
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from handlers import image
from handlers.containers import PNG
from handlers.image import read_film, to_pixels
from handlers.refused import CODES, RefusedFilm

WEDGE = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
PHOTOGRAPH = np.stack([WEDGE, WEDGE[:, ::-1], np.full_like(WEDGE, 90)], axis=2)


def encoded(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(depth: int, kind: int, side: int, rows: bytes, *others: bytes, interlaced: bool = False) -> bytes:
    """A PNG file written chunk by chunk; ``rows`` as they are before compression."""
    header = struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + b"".join(others) + chunk(b"IDAT", zlib.compress(rows))
    return PNG + chunks + chunk(b"IEND", b"")


def interlaced(film: NDArray[np.uint8]) -> bytes:
    """A PNG file in Adam7's seven passes (PNG, 8.1), which Pillow reads and does not write."""
    steps = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
    passes = [film[top::down, left::across] for top, down, left, across in steps]
    rows = b"".join(b"\0" + row.tobytes() for one in passes for row in one)
    return png(8, 0, len(film), rows, interlaced=True)


def refused(data: bytes) -> RefusedFilm:
    with pytest.raises(RefusedFilm) as caught:
        read_film(data)
    assert caught.value.message
    assert caught.value.code == CODES[caught.value.type]
    return caught.value


def test_grey_png_is_read_pixel_for_pixel() -> None:
    assert (read_film(encoded(Image.fromarray(WEDGE))) == WEDGE).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_films_in_colour_modes_keep_their_grey(mode: str) -> None:
    assert (read_film(encoded(Image.fromarray(WEDGE).convert(mode))) == WEDGE).all()


def test_1_bit_png_is_black_and_white() -> None:
    half = WEDGE > 127
    assert (read_film(encoded(Image.fromarray(half))) == np.where(half, 255, 0)).all()


def test_16_bit_png_is_scaled_not_clipped() -> None:
    """PNG's 16-bit samples are big-endian."""
    film = read_film(encoded(Image.fromarray(WEDGE.astype(np.uint16) * 257)))
    assert (film == WEDGE).all()
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in np.full((40, 40), 0x8000))
    assert (read_film(png(16, 0, 40, rows)) == 0x8000 // 257).all()


@pytest.mark.parametrize("kind", [2, 4, 6], ids=["RGB", "grey and alpha", "RGBA"])
def test_16_bit_png_of_several_channels_is_read(kind: int) -> None:
    channels = {2: 3, 4: 2, 6: 4}[kind]
    samples = np.full((40, 40, channels), 0xC0C0, ">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    assert (read_film(png(16, kind, 40, rows)) == 0xC0).all()


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


def test_a_wholly_transparent_picture_is_refused() -> None:
    assert refused(encoded(Image.new("RGBA", (64, 64), (200, 200, 200, 0)))).type == "UnreadableImage"


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_grey_jpeg_is_read_in_every_mode(mode: str, options: dict[str, bool]) -> None:
    for quality, error in ((90, 2), (10, 6)):
        film = read_film(encoded(Image.fromarray(WEDGE).convert(mode), "JPEG", quality=quality, **options))
        assert np.abs(film.astype(int) - WEDGE).mean() < error


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_rotated_film_is_turned_upright(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: the stored rows are the film's columns
    film = read_film(encoded(Image.fromarray(WEDGE), format, exif=exif))
    assert film.shape == (256, 64)
    assert film[:10].mean() < 10 < 240 < film[-10:].mean()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_a_colour_photograph_is_no_radiograph(mode: str) -> None:
    format = "JPEG" if mode == "CMYK" else "PNG"
    assert refused(encoded(Image.fromarray(PHOTOGRAPH).convert(mode), format)).type == "NotARadiograph"


@pytest.mark.parametrize("quality", [50, 95])
def test_noise_a_tinted_base_and_a_coloured_mark_leave_a_film_a_film(quality: int) -> None:
    chance = np.random.default_rng(0)
    film = np.clip(WEDGE + chance.normal(0, 8, WEDGE.shape), 0, 255)
    tinted = np.clip(np.stack([film - 10, film, film + 10], axis=2), 0, 255).astype(np.uint8)
    tinted[4:16, 4:24] = (255, 0, 0)
    assert np.abs(read_film(encoded(Image.fromarray(tinted), "JPEG", quality=quality))[20:] - film[20:]).mean() < 15


def test_an_animation_and_a_multi_picture_jpeg_are_no_radiograph() -> None:
    frames = [Image.fromarray(WEDGE), Image.fromarray(WEDGE[::-1, ::-1].copy())]
    for format in ("PNG", "MPO"):
        fault = refused(encoded(frames[0], format, save_all=True, append_images=frames[1:]))
        assert fault.type == "NotARadiograph"
        assert "2 frames" in fault.message


@pytest.mark.parametrize(
    ("data", "type"),
    [
        (b"", "EmptyRequest"),
        (b"this is no film", "UnreadableImage"),
        (encoded(Image.fromarray(WEDGE), "GIF"), "UnreadableImage"),
        (encoded(Image.fromarray(WEDGE), "TIFF"), "UnreadableImage"),
        (encoded(Image.effect_noise((64, 64), 50))[:-200], "TruncatedImage"),
        (encoded(Image.effect_noise((64, 64), 50))[:20], "TruncatedImage"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:-200], "TruncatedImage"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:20], "TruncatedImage"),
    ],
    ids=["empty", "text", "GIF", "TIFF", "cut PNG", "cut PNG header", "cut JPEG", "cut JPEG header"],
)
def test_what_is_no_film_is_refused_by_name(data: bytes, type: str) -> None:
    assert refused(data).type == type


@pytest.mark.parametrize("rows", [0, 1, 20, 39])
def test_a_png_that_holds_fewer_rows_than_it_says_is_truncated(rows: int) -> None:
    """Its stream ends in order; the decoder would leave the rest black."""
    row = b"\0" + b"\x80" * 40
    assert refused(png(8, 0, 40, row * rows)).type == "TruncatedImage"
    assert (read_film(png(8, 0, 40, row * 40)) == 0x80).all()


def test_an_interlaced_png_without_its_last_pass_is_truncated() -> None:
    passes = zlib.decompress(chunk_of(interlaced(WEDGE[:, :64]), b"IDAT"))
    assert refused(png(8, 0, 64, passes[: -32 * 65], interlaced=True)).type == "TruncatedImage"


def chunk_of(data: bytes, name: bytes) -> bytes:
    place = data.index(name)
    return data[place + 4 : place + 4 + int.from_bytes(data[place - 4 : place], "big")]


def test_a_film_with_a_black_last_row_is_whole() -> None:
    film = WEDGE.copy()
    film[-1] = 0
    assert (read_film(encoded(Image.fromarray(film))) == film).all()
    assert (read_film(encoded(Image.fromarray(film > 127))) == np.where(film > 127, 255, 0)).all()


def test_what_follows_a_film_in_its_file_is_left_alone() -> None:
    for format in ("PNG", "JPEG"):
        data = encoded(Image.fromarray(WEDGE), format)
        assert (read_film(data + b"\0garbage" * 1000) == read_film(data)).all()


@pytest.mark.parametrize("name", [b"iCCP", b"zTXt"])
def test_a_bomb_in_a_png_s_words_is_refused(name: bytes) -> None:
    bomb = chunk(name, b"name\0\0" + zlib.compress(bytes(200 * 2**20)))
    assert refused(png(8, 0, 40, (b"\0" + b"\x80" * 40) * 40, bomb)).type == "UnreadableImage"


def test_a_damaged_chunk_is_a_damaged_film() -> None:
    data = bytearray(encoded(Image.effect_noise((64, 64), 50)))
    data[data.index(b"IDAT") + 500] ^= 0xFF
    assert refused(bytes(data)).type == "TruncatedImage"


@pytest.mark.parametrize("size", [(20000, 20000), (100_000, 64), (64, 10_001), (9000, 9000)])
def test_a_decompression_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    fault = refused(encoded(Image.new("1", size)))
    assert (fault.type, fault.code) == ("ImageTooLarge", 413)


def test_a_file_of_more_bytes_than_the_server_takes_is_refused() -> None:
    fault = refused(PNG + bytes(64 * 2**20))
    assert (fault.type, fault.code) == ("ImageTooLarge", 413)


@pytest.mark.parametrize("size", [(1, 1), (31, 200), (200, 31)])
def test_a_film_too_small_to_see_anything_is_refused(size: tuple[int, int]) -> None:
    fault = refused(encoded(Image.new("L", size)))
    assert fault.type == "UnreadableImage"
    assert "at least 32 px" in fault.message
    assert read_film(encoded(Image.new("L", (32, 32)))).shape == (32, 32)


def test_a_jpeg_of_scans_without_end_is_refused() -> None:
    """Each scan of a progressive JPEG walks over the whole picture; a few bytes ask for one more."""
    data = encoded(Image.fromarray(WEDGE), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    endless = data[:last] + data[last:-2] * 5000 + data[-2:]
    assert refused(endless).type == "UnreadableImage"


@pytest.mark.parametrize("name", [b"IDAT", b"tEXt", b"noNe"])
def test_a_png_of_chunks_without_end_is_refused_in_time(name: bytes) -> None:
    """Twelve bytes a chunk: the decoder's walk over 60 MB would take half a minute."""
    row = b"\0" + b"\x80" * 40
    begun = time.monotonic()
    assert refused(png(8, 0, 40, row * 40, chunk(name, b"") * (60 * 2**20 // 12))).type == "UnreadableImage"
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("segment", [b"\xff\xfe\0\2", b"\xff"], ids=["comments", "fill bytes"])
def test_a_jpeg_of_segments_without_end_is_refused_in_time(segment: bytes) -> None:
    data = encoded(Image.fromarray(WEDGE), "JPEG")
    begun = time.monotonic()
    assert refused(data[:2] + segment * (60 * 2**20 // len(segment)) + data[2:]).type == "UnreadableImage"
    assert time.monotonic() - begun < 5


def test_too_little_memory_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(picture: Image.Image) -> NDArray[np.uint8]:
        raise MemoryError

    monkeypatch.setattr(image, "_grey", full)
    assert refused(encoded(Image.fromarray(WEDGE))).type == "ImageTooLarge"


def test_pixels_are_a_square_of_the_model_s_size() -> None:
    pixels = to_pixels(WEDGE, 32)
    assert pixels.shape == (32, 32)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.mean() - WEDGE.mean()) < 1


def test_a_png_whose_pixels_do_not_match_their_checksum_is_refused() -> None:
    whole = encoded(Image.fromarray(WEDGE))
    place = whole.index(b"IDAT")
    end = place + 4 + int.from_bytes(whole[place - 4 : place], "big")
    for at in (end, end + 3):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        with pytest.raises(RefusedFilm, match="checksum") as refused:
            read_film(bytes(damaged))
        assert refused.value.type == "TruncatedImage"
