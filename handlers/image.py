"""Bytes to pixels, for training and for serving: the only decoder in the project."""

from io import BytesIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

DICOM_MAGIC = slice(128, 132)
"""Where a DICOM file says ``DICM`` (PS3.10, section 7.1)."""


class RefusedFilm(Exception):
    """A file that is not read as a film; ``type`` is stable, ``message`` is for a person."""

    def __init__(self, type: str, message: str, code: int = 400) -> None:
        super().__init__(message)
        self.type, self.message, self.code = type, message, code


def read_film(data: bytes) -> NDArray[np.uint8]:
    """Decodes a PNG, JPEG or DICOM file.

    Returns:
        [H, W] uint8, dense structures bright (MONOCHROME2), windowed where the file says how.

    Raises:
        RefusedFilm: the file is empty, of another kind, damaged, or too large to decode safely.
    """
    if not data:
        raise RefusedFilm("EmptyRequest", "no film: send the file's bytes as the body, or as form field 'data'")
    try:
        return _read_dicom(data) if data[DICOM_MAGIC] == b"DICM" else _read_picture(data)
    except RefusedFilm:
        raise
    except Image.DecompressionBombError as fault:
        raise RefusedFilm("ImageTooLarge", str(fault)) from fault
    except Exception as fault:  # a decoder may raise anything on hostile bytes; a film must not stop the batch
        raise RefusedFilm("UnreadableImage", f"cannot be decoded: {fault}") from fault


def to_pixels(film: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """[H, W] uint8 -> [size, size] uint8, antialiased.

    The aspect ratio is not kept: NIH's 1024-px squares were made so from films of any shape.
    """
    resized = Image.fromarray(film).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.array(resized)


def _read_picture(data: bytes) -> NDArray[np.uint8]:
    try:
        picture = Image.open(BytesIO(data), formats=("PNG", "JPEG"))
    except UnidentifiedImageError as fault:
        raise RefusedFilm("UnreadableImage", "not a PNG, JPEG or DICOM file") from fault
    try:
        picture.load()
    except (OSError, SyntaxError) as fault:  # Pillow reports a broken PNG chunk as SyntaxError
        raise RefusedFilm("TruncatedImage", f"{picture.format} file is cut short or damaged: {fault}") from fault
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I"):
        return (np.asarray(picture).astype(np.uint32) // 257).astype(np.uint8)  # 16 bit to 8: 65535 / 257 = 255
    return np.asarray(picture.convert("L"))


def _read_dicom(data: bytes) -> NDArray[np.uint8]:
    dataset = pydicom.dcmread(BytesIO(data))
    if "PixelData" not in dataset:
        raise RefusedFilm("UnreadableImage", "the DICOM file holds no image")
    stored = dataset.pixel_array
    if stored.ndim != 2:
        raise RefusedFilm("UnreadableImage", f"one grey frame is wanted, the DICOM file holds {stored.shape}")
    grey = _window(np.asarray(apply_modality_lut(stored, dataset), np.float64), dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 1.0 - grey
    return np.rint(grey * 255.0).astype(np.uint8)


def _window(values: NDArray[np.float64], dataset: FileDataset) -> NDArray[np.float64]:
    """Modality values to [0, 1] by VOI LUT, by window (PS3.3, C.11.2), or by their own range."""
    if "VOILUTSequence" in dataset:
        table: Dataset = dataset.VOILUTSequence[0]
        bits = int(table.LUTDescriptor[2])
        return np.asarray(apply_voi_lut(values.astype(np.int64), dataset, index=0), np.float64) / (2**bits - 1)
    if "WindowCenter" not in dataset or "WindowWidth" not in dataset:
        low, high = float(values.min()), float(values.max())
        return (values - low) / max(high - low, 1e-6)
    center, width = _first(dataset.WindowCenter), max(_first(dataset.WindowWidth), 1.0)
    function = dataset.get("VOILUTFunction", "LINEAR")
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(-4.0 * (values - center) / width))
    if function == "LINEAR":
        center, width = center - 0.5, max(width - 1.0, 1e-6)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def _first(value: object) -> float:
    """A window may be one number or several; the first is the file's default view."""
    return float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)  # type: ignore[arg-type]
