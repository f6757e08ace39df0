"""A film that shows nothing is refused by that name, whatever its format; a film of anything is not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from handlers.decoding.blank import BLANK_SHARE, NOISE_CONTRAST, contrast_of_fields, share_of_three_shades
from handlers.decoding.image import read_film
from tests.handlers.dicom_files import dataset_of, written
from tests.handlers.picture_files import WEDGE, encoded, png, refused, rows_of

NIH = Path(__file__).parents[3] / "shared" / "nih-1024"
SIDE = 256
Film = NDArray[np.uint8]


def flat(grey: int) -> Film:
    return np.full((SIDE, SIDE), grey, np.uint8)


def noisy(grey: int, spread: float) -> Film:
    noise = np.random.default_rng(0).normal(grey, spread, (SIDE, SIDE))
    return np.clip(np.rint(noise), 0, 255).astype(np.uint8)


def chest() -> Film:
    """Two dark lungs in brighter tissue, with noise: something to see."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    lungs = sum(np.exp(-(((x - side) / 0.3) ** 2) - (y / 0.6) ** 2) for side in (-0.45, 0.45))
    noise = np.random.default_rng(0).normal(0, 3, (SIDE, SIDE))
    return np.clip(200 - 150 * lungs - 40 * np.abs(x) + noise, 0, 255).astype(np.uint8)


def with_label(film: Film) -> Film:
    picture = Image.fromarray(film)
    ImageDraw.Draw(picture).text((10, 10), "PORTABLE AP", fill=255, font=ImageFont.load_default(18))
    return np.asarray(picture)


def with_border(film: Film, width: int) -> Film:
    framed = np.zeros_like(film)
    framed[width:-width, width:-width] = film[width:-width, width:-width]
    return framed


def with_hot_pixels(film: Film) -> Film:
    hot = film.copy()
    hot[::16, ::16] = 255
    return hot


def halves() -> Film:
    return np.where(np.arange(SIDE) < SIDE // 2, flat(30), flat(200))


def through_jpeg(film: Film, quality: int) -> bytes:
    return encoded(Image.fromarray(film), "JPEG", quality=quality)


BLANK: dict[str, Callable[[], Film]] = {
    "black": lambda: flat(0),
    "grey": lambda: flat(117),
    "white": lambda: flat(255),
    "one pixel": lambda: np.where(np.arange(SIDE * SIDE).reshape(SIDE, SIDE) == 7, flat(255), flat(0)),
    "hot pixels": lambda: with_hot_pixels(flat(0)),
    "a label": lambda: with_label(flat(20)),
    "a thin border": lambda: with_border(flat(128), 8),
    "collimated": lambda: with_border(noisy(140, 1), 60),
    "noise of one grey": lambda: noisy(128, 1),
    "noise of four greys": lambda: noisy(128, 4),
    "two halves": halves,
    "three stripes": lambda: np.repeat(np.array([10, 100, 220], np.uint8), 86)[None, :SIDE].repeat(SIDE, 0),
    "a faint gradient": lambda: np.linspace(120, 133, SIDE).astype(np.uint8)[None].repeat(SIDE, 0),
    "black and white": lambda: np.where(chest() > 128, flat(255), flat(0)),
    "a sixteenth of the range": lambda: chest() // 17,
}


@pytest.mark.parametrize("film", BLANK.values(), ids=BLANK)
@pytest.mark.parametrize("format", ["PNG", "JPEG", "DICOM"])
def test_a_film_of_one_shade_or_two_or_three_is_blank_in_every_format(film: Callable[[], Film], format: str) -> None:
    if format == "DICOM":
        data = written(dataset_of(film(), 8, WindowCenter=128, WindowWidth=256))
    else:
        data = encoded(Image.fromarray(film()), format)
    fault = refused(data)
    assert (fault.type, fault.code) == ("BlankImage", 422)


@pytest.mark.parametrize("quality", [10, 50, 95])
@pytest.mark.parametrize(
    "film", [halves, lambda: with_label(flat(100)), lambda: noisy(90, 2)], ids=["halves", "label", "noise"]
)
def test_compression_does_not_make_a_blank_film_a_film(film: Callable[[], Film], quality: int) -> None:
    assert refused(through_jpeg(film(), quality)).type == "BlankImage"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "CMYK"])
def test_a_blank_film_is_blank_in_every_mode(mode: str) -> None:
    picture = Image.fromarray(flat(255)).convert(mode)
    assert refused(encoded(picture, "JPEG" if mode == "CMYK" else "PNG")).type == "BlankImage"


def test_a_blank_film_of_16_bit_is_blank() -> None:
    for grey in (0, 9, 700, 3000, 12_000, 40_000, 65_535):
        noise = np.random.default_rng(0).integers(0, 3, (64, 64))
        assert refused(png(16, 0, 64, rows_of(np.full((64, 64), grey, np.uint16)))).type == "BlankImage"
        assert refused(png(16, 0, 64, rows_of(np.clip(grey + noise, 0, 65_535).astype(np.uint16)))).type == "BlankImage"


@pytest.mark.parametrize("spread", [10, 20, 60])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_film_of_noise_is_blank(spread: float, format: str) -> None:
    fault = refused(encoded(Image.fromarray(noisy(128, spread)), format))
    assert fault.type == "BlankImage"
    assert "noise" in fault.message


@pytest.mark.parametrize("spread", [0.5, 1, 3, 30, 300])
def test_a_blank_exposure_whose_few_values_are_stretched_over_all_greys_is_blank(spread: float) -> None:
    """Without a window a DICOM film is shown from its darkest to its brightest value."""
    stored = np.clip(np.random.default_rng(0).normal(2000, spread, (SIDE, SIDE)), 0, 4095).astype(np.uint16)
    assert refused(written(dataset_of(stored, 12))).type == "BlankImage"
    shown = np.rint(2000 + (chest() - 128.0) * 7).astype(np.uint16)
    assert read_film(written(dataset_of(shown, 12))).shape == (SIDE, SIDE)


def test_a_wholly_transparent_picture_is_blank() -> None:
    assert refused(encoded(Image.new("RGBA", (64, 64), (200, 200, 200, 0)))).type == "BlankImage"


def test_the_refusal_says_how_much_is_of_how_few_shades_and_how_much_may_be() -> None:
    assert "every pixel has the same grey (117 of 255)" in refused(encoded(Image.fromarray(flat(117)))).message
    fault = refused(encoded(Image.fromarray(with_hot_pixels(noisy(60, 1)))))
    assert "100.0% of the pixels have one of three shades" in fault.message
    assert "at most 90%" in fault.message


@pytest.mark.parametrize(
    "film",
    [
        chest(),
        with_label(chest()),
        with_border(chest(), 70),
        chest() // 4,
        chest() // 8 + 200,
        255 - chest(),
        np.asarray(Image.linear_gradient("L")),
        chest() // 32 * 36,
        WEDGE,
    ],
    ids=["film", "label", "collimated", "dark", "pale", "inverted", "gradient", "eight greys", "wedge"],
)
def test_a_film_that_shows_something_is_read(film: Film) -> None:
    np.testing.assert_array_equal(read_film(encoded(Image.fromarray(film))), film)


def test_three_shades_are_the_three_bands_of_five_greys_that_hold_the_most() -> None:
    assert share_of_three_shades([1] * 256) == pytest.approx(15 / 256)
    assert share_of_three_shades([7] + [0] * 255) == 1.0
    counts = [0] * 256
    for grey in (0, 4, 5, 9, 100, 200, 204, 209):
        counts[grey] = 1
    assert share_of_three_shades(counts) == 6 / 8


@pytest.mark.skipif(not NIH.exists(), reason="needs NIH films")
def test_no_real_film_comes_near_the_bounds() -> None:
    for path in sorted(NIH.rglob("*.png")):
        picture = Image.fromarray(read_film(path.read_bytes()))
        counts = picture.histogram()
        assert share_of_three_shades(counts) < BLANK_SHARE - 0.25, path.name
        assert contrast_of_fields(picture, counts) > NOISE_CONTRAST + 0.5, path.name
