"""DICOM files for the tests: written by hand, or pydicom's own said to be radiographs."""

from io import BytesIO

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from handlers.image import read_film
from handlers.refused import RefusedFilm

WEDGE = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
NOISE = np.random.default_rng(0).integers(0, 4096, (96, 80)).astype(np.uint16)
"""A 12-bit film that no decoder can guess."""
WHOLE = {"WindowCenter": 2048, "WindowWidth": 4096}
"""The window that shows all of 12 bits."""


def dataset_of(stored: NDArray[np.integer], bits: int, syntax: uid.UID = uid.ExplicitVRLittleEndian, **tags: object):
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid.generate_uid(entropy_srcs=["film"])
    dataset.Modality = "CR"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = stored.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def written(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def film_of(stored: NDArray[np.integer], bits: int, **tags: object) -> bytes:
    """``stored`` repeated to a film of at least 32 px, as a DICOM file."""
    rows, columns = (-(-32 // side) for side in stored.shape)
    return written(dataset_of(np.tile(stored, (rows, columns)), bits, **tags))


def as_radiograph(name: str, **tags: object) -> bytes:
    """One of pydicom's files, said to be a CR film."""
    dataset = pydicom.dcmread(str(get_testdata_file(name, download=False)))
    dataset.Modality, dataset.SOPClassUID = "CR", uid.ComputedRadiographyImageStorage
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


def compressed(stored: NDArray[np.integer], bits: int, syntax: uid.UID, frame: bytes, **tags: object) -> bytes:
    dataset = dataset_of(stored, bits, syntax, **tags)
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    return written(dataset)


def refused(data: bytes) -> RefusedFilm:
    with pytest.raises(RefusedFilm) as caught:
        read_film(data)
    assert caught.value.message
    return caught.value
