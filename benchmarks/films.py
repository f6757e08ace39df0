"""The benchmark's films: full-size PNGs, the same as JPEG (quality 90), and as 2000-px DICOM (16 bit, uncompressed)."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from handlers.decoding.image import read_film, to_pixels

DICOM_SIDE = 2000
"""Pixels; a detector of 43 cm with pixels of 0.2 mm has about as many."""


def film_paths(folder: Path, number: int) -> list[Path]:
    """The first PNG films under ``folder`` by name.

    Raises:
        FileNotFoundError: there is none.
    """
    paths = sorted(folder.rglob("*.png"))[:number]
    if not paths:
        raise FileNotFoundError(f"no PNG film under {folder}: name a folder with --films, or 'make data' draws some")
    return paths


def as_jpeg(png: bytes) -> bytes:
    buffer = BytesIO()
    Image.fromarray(read_film(png)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def as_dicom(png: bytes) -> bytes:
    """12 bits stored in 16, MONOCHROME2, with the window that shows them all."""
    side = (DICOM_SIDE, DICOM_SIDE)
    grey = np.asarray(Image.fromarray(read_film(png)).resize(side, Image.Resampling.BICUBIC), np.uint16)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["benchmark"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    film.Rows, film.Columns = grey.shape
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 16, 12, 11
    film.WindowCenter, film.WindowWidth = 2048, 4096
    film.PixelData = (grey * 16).tobytes()
    buffer = BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def decoded(films: Sequence[bytes], side: int) -> NDArray[np.uint8]:
    """[N, side, side], by the project's own decoder."""
    return np.stack([to_pixels(read_film(film), side) for film in films])
