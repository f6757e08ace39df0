"""The decoder reads films as they are, and refuses by name what is none."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from handlers.image import RefusedFilm, read_film, to_pixels

WEDGE = np.tile(np.arange(256, dtype=np.uint8), (64, 1))


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def dicom(stored: np.ndarray, bits: int, **tags: object) -> bytes:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=["film"])
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = stored.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = stored.tobytes()
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def test_grey_png_is_read_pixel_for_pixel() -> None:
    assert (read_film(encoded(Image.fromarray(WEDGE))) == WEDGE).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_films_in_colour_modes_keep_their_grey(mode: str) -> None:
    assert np.abs(read_film(encoded(Image.fromarray(WEDGE).convert(mode))).astype(int) - WEDGE).max() <= 1


def test_16_bit_png_is_scaled_not_clipped() -> None:
    film = read_film(encoded(Image.fromarray(WEDGE.astype(np.uint16) * 257)))
    assert (film == WEDGE).all()


def test_jpeg_is_read() -> None:
    film = read_film(encoded(Image.fromarray(WEDGE), "JPEG", quality=95))
    assert np.abs(film.astype(int) - WEDGE).mean() < 2


def test_rotated_jpeg_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: the stored rows are the film's columns
    assert read_film(encoded(Image.fromarray(WEDGE), "JPEG", exif=exif)).shape == (256, 64)


def test_dicom_window_maps_to_the_full_range() -> None:
    """PS3.3 C.11.2.1.2.1: below c - 0.5 - (w-1)/2 is black, above c - 0.5 + (w-1)/2 is white."""
    stored = np.array([[0, 100, 150, 200, 4000]], np.uint16)
    film = read_film(dicom(stored, 12, WindowCenter=150.5, WindowWidth=101))
    assert film.tolist() == [[0, 0, 128, 255, 255]]


def test_dicom_rescale_comes_before_the_window() -> None:
    stored = np.array([[0, 50, 100]], np.int16)
    tags = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 0.5, "WindowWidth": 201}
    assert read_film(dicom(stored, 16, **tags)).tolist() == [[0, 128, 255]]


def test_dicom_without_window_uses_its_own_range() -> None:
    assert read_film(dicom(np.array([[10, 20, 30]], np.uint16), 12)).tolist() == [[0, 128, 255]]


def test_monochrome1_is_inverted() -> None:
    stored = np.array([[0, 255]], np.uint8)
    tags = {"WindowCenter": 128, "WindowWidth": 256}
    assert read_film(dicom(stored, 8, **tags)).tolist() == [[0, 255]]
    assert read_film(dicom(stored, 8, PhotometricInterpretation="MONOCHROME1", **tags)).tolist() == [[255, 0]]


def test_real_monochrome1_chest_film_has_dark_lungs_and_a_bright_spine() -> None:
    film = read_film(Path(str(get_testdata_file("RG1_UNCR.dcm"))).read_bytes())
    assert film.shape == (1955, 1841)
    pixels = to_pixels(film, 100).astype(float)
    lungs = np.concatenate([pixels[35:55, 22:35], pixels[35:55, 65:78]])
    assert pixels[60:75, 46:54].mean() > lungs.mean() + 30


@pytest.mark.parametrize(
    ("data", "type"),
    [
        (b"", "EmptyRequest"),
        (b"this is no film", "UnreadableImage"),
        (encoded(Image.effect_noise((64, 64), 50))[:-200], "TruncatedImage"),
        (b"\0" * 128 + b"DICM" + b"\xff" * 50, "UnreadableImage"),
        (dicom(WEDGE, 8)[:-5000], "UnreadableImage"),
    ],
    ids=["empty", "text", "truncated PNG", "DICOM magic and noise", "truncated DICOM"],
)
def test_what_is_no_film_is_refused_by_name(data: bytes, type: str) -> None:
    with pytest.raises(RefusedFilm) as refused:
        read_film(data)
    assert refused.value.type == type
    assert refused.value.message


def test_decompression_bomb_is_refused() -> None:
    bomb = encoded(Image.new("1", (20000, 20000)))
    with pytest.raises(RefusedFilm) as refused:
        read_film(bomb)
    assert refused.value.type == "ImageTooLarge"


def test_pixels_are_a_square_of_the_model_s_size() -> None:
    pixels = to_pixels(WEDGE, 32)
    assert pixels.shape == (32, 32)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.mean() - WEDGE.mean()) < 1
