"""The decoder reads films as they are, and refuses by name what is none; PNG and JPEG have tests of their own."""

import gzip
import io
import tarfile
import zipfile
from base64 import b64encode
from collections.abc import Callable
from typing import NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from handlers.decoding import image
from handlers.decoding.containers import JPEG, PNG
from handlers.decoding.image import read_film, to_pixels
from tests.handlers.picture_files import NOISE, WEDGE, encoded, refused

PHOTOGRAPH = np.stack([WEDGE, WEDGE[:, ::-1], np.full_like(WEDGE, 90)], axis=2)
FILM = encoded(Image.fromarray(WEDGE))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_film_is_turned_upright_as_its_file_says(format: str, orientation: int) -> None:
    block = Image.Exif()
    block[0x0112] = orientation
    corner = np.add.outer(2 * np.arange(40), np.arange(100)).astype(np.uint8)  # dark in one of four corners
    data = encoded(Image.fromarray(corner), format, exif=block)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert upright.size == ((100, 40) if orientation < 5 else (40, 100))
    np.testing.assert_array_equal(read_film(data), upright)


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


def zipped(film: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("film.png", film)
    return archive.getvalue()


def tarred(film: bytes) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as packed:
        packed.addfile(tarfile.TarInfo("film.png"), io.BytesIO(film))
    return archive.getvalue()


def array(film: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, film)
    return buffer.getvalue()


OTHERS = {
    "a GIF file": encoded(Image.fromarray(WEDGE), "GIF"),
    "a TIFF file": encoded(Image.fromarray(WEDGE), "TIFF"),
    "a BMP file": encoded(Image.fromarray(WEDGE), "BMP"),
    "a WebP file": encoded(Image.fromarray(WEDGE), "WEBP"),
    "an icon": encoded(Image.fromarray(WEDGE), "ICO"),
    "a PDF document": encoded(Image.fromarray(WEDGE), "PDF"),
    "a PostScript document": encoded(Image.fromarray(WEDGE), "EPS"),
    "a HEIC file": b"\0\0\0\x18ftypheic" + bytes(100),
    "an AVIF file": b"\0\0\0\x18ftypavif" + bytes(100),
    "a video": b"\0\0\0\x18ftypisom" + bytes(100),
    "a JPEG 2000 file outside DICOM": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
    "a JPEG XL file": b"\xff\x0a" + bytes(100),
    "a file packed with gzip": gzip.compress(FILM),
    "a ZIP archive": zipped(FILM),
    "a tar archive": tarred(FILM),
    "a NumPy array": array(WEDGE),
    "a NIfTI file": bytes(range(1, 173)) * 2 + b"n+1\0" + bytes(100),
    "a page of HTML or XML": b"\xef\xbb\xbf\r\n<!DOCTYPE html><title>403 Forbidden</title>",
    "JSON text": b'{"error": "not found"}',
    "a Git LFS pointer to a file that was not fetched": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "a PNG file as base64 text": b64encode(FILM),
    "a JPEG file as base64 text": b64encode(encoded(NOISE, "JPEG")),
    "a PNG file whose line ends a transfer as text has changed": FILM.replace(b"\r\n", b"\n"),
    "zero bytes only": bytes(10_000),
    "text": b"this is no film",
    "a file of an unknown kind": bytes(range(1, 256)),
}


@pytest.mark.parametrize(("kind", "data"), OTHERS.items(), ids=OTHERS)
def test_a_file_of_another_kind_is_refused_by_what_it_is(kind: str, data: bytes) -> None:
    fault = refused(data)
    assert fault.type == "UnreadableImage"
    assert fault.message == f"not a PNG, JPEG or DICOM file, but {kind}"


def test_an_empty_file_and_one_that_ends_in_its_first_bytes_are_refused_by_name() -> None:
    assert refused(b"").type == "EmptyRequest"
    for start in (PNG, JPEG):
        for length in range(1, len(start) + 1):
            assert refused(start[:length]).type == "TruncatedImage"


def test_a_file_of_more_bytes_than_the_server_takes_is_refused() -> None:
    fault = refused(PNG + bytes(64 * 2**20))
    assert (fault.type, fault.code) == ("ImageTooLarge", 413)


@pytest.mark.parametrize("size", [(1, 1), (31, 200), (200, 31)])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_film_too_small_to_see_anything_is_refused(size: tuple[int, int], format: str) -> None:
    fault = refused(encoded(NOISE.resize(size), format))
    assert fault.type == "UnreadableImage"
    assert "at least 32 px" in fault.message
    assert read_film(encoded(NOISE.resize((32, 32)), format)).shape == (32, 32)


def breaking(fault: Exception) -> Callable[[bytes], NoReturn]:
    def read(data: bytes) -> NoReturn:
        raise fault

    return read


def test_too_little_memory_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "read_png", breaking(MemoryError()))
    assert refused(FILM).type == "ImageTooLarge"


def test_what_a_decoder_was_not_expected_to_raise_is_a_refusal_in_words(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own words may quote the file's, and its class tells a person nothing; that goes to the log."""
    monkeypatch.setattr(image, "read_png", breaking(ValueError("JOHN DOE is no number")))
    fault = refused(FILM)
    assert (fault.type, fault.message) == ("UnreadableImage", "the PNG file is damaged: its decoder gives up on it")
    assert "ValueError" in caplog.text
    assert "DOE" not in caplog.text


def test_pixels_are_a_square_of_the_model_s_size() -> None:
    pixels = to_pixels(WEDGE, 32)
    assert pixels.shape == (32, 32)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.mean() - WEDGE.mean()) < 1
