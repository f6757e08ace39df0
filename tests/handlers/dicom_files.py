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
from pydicom.sequence import Sequence

from handlers.decoding.image import read_film
from handlers.refusals import RefusedFilm

WEDGE = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
NOISE = np.random.default_rng(0).integers(0, 4096, (96, 80)).astype(np.uint16)
"""A 12-bit film that no decoder can guess."""
WHOLE = {"WindowCenter": 2048, "WindowWidth": 4096}
"""The window that shows all of 12 bits."""
LINE = np.arange(4096)
"""Every value of 12 bit, which a table may leave as it is."""


def _anatomy() -> NDArray[np.uint16]:
    down, across = np.mgrid[0:200, 0:160] / 40
    shape = np.sin(down) * np.cos(across) + across / 4 + np.random.default_rng(1).normal(0, 0.01, down.shape)
    return np.rint(4095 * (shape - shape.min()) / np.ptp(shape)).astype(np.uint16)


ANATOMY = _anatomy()
"""A smooth 12-bit film, of all values from 0 to 4095, as a detector makes it."""
AS_SEEN = np.rint(ANATOMY / 4095 * 255).astype(np.uint8)
"""What a person sees of it."""


def table_of(descriptor: list[int], data: object, vr: str = "US", kind: str = "US") -> Dataset:
    """A lookup table: its item, with the value representations of ``LUTDescriptor`` and ``LUTData``."""
    item = Dataset()
    item.add_new("LUTDescriptor", kind, descriptor)
    item.add_new("LUTData", vr, data)
    item.ModalityLUTType = "US"
    return item


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
    """A row ``stored``, repeated to at least 32 px, above a wedge of all values between its ends; as a DICOM file."""
    return written(dataset_of(above_a_wedge(stored), bits, **tags))


def above_a_wedge(stored: NDArray[np.integer]) -> NDArray[np.integer]:
    row = np.tile(stored[0], -(-64 // stored.shape[1]))
    wedge = np.linspace(int(stored.min()), int(stored.max()), len(row)).astype(stored.dtype)
    return np.vstack([row[None], np.tile(wedge, (63, 1))])


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


def film(stored: NDArray[np.integer] = ANATOMY, bits: int = 12, **tags: object) -> NDArray[np.uint8]:
    """As it is read, of a DICOM file of these samples."""
    return read_film(written(dataset_of(stored, bits, **tags)))


def with_table(
    item: Dataset, name: str = "VOILUTSequence", stored: NDArray[np.integer] = ANATOMY, **tags: object
) -> bytes:
    """A DICOM file with a sequence of one lookup table."""
    bits = tags.pop("bits", 12)
    return written(dataset_of(stored, bits, **{name: Sequence([item])}, **tags))
