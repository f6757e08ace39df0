"""Chest films as DICOM data sets: small ones of patients of their own, and real ones (the package pydicom-data)."""

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from tests.handlers.dicom_files import dataset_of

REAL = ("RG1_UNCR.dcm", "RG1_J2KR.dcm", "RG1_J2KI.dcm")
"""Three CR objects of one study, of one chest: uncompressed, and in lossless and in lossy JPEG 2000."""
PATIENT = {
    "PatientName": "Unmistakable^Wilhelmina",
    "PatientID": "PID-77310042",
    "PatientBirthDate": "19310227",
    "OtherPatientIDs": "OTHER-5550199",
    "AccessionNumber": "ACC-8813377",
    "ReferringPhysicianName": "Hippocrates^Asclepia",
    "InstitutionName": "Lazaretto of Nowhere",
    "StudyDate": "20030917",
}
"""Fields that no log, metric or table may show."""


def real(name: str) -> Dataset:
    return pydicom.dcmread(str(get_testdata_file(name, download=False)))


def small_pixels(path: Path, side: int = 96) -> NDArray[np.uint16]:
    """[side, side] uint16 of 12 bit, of a drawn film."""
    with Image.open(path) as picture:
        grey = picture.convert("L").resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(grey).astype(np.uint16) * 16


def film(pixels: NDArray[np.uint16], number: int, **tags: object) -> Dataset:
    """Film ``number``, of a patient and a study of its own."""
    its = {
        "SOPInstanceUID": generate_uid(entropy_srcs=["film", str(number)]),
        "StudyInstanceUID": generate_uid(entropy_srcs=["study", str(number)]),
        "SeriesInstanceUID": generate_uid(entropy_srcs=["series", str(number)]),
        "PatientName": f"Patient^{number}",
        "PatientID": f"P{number:06}",
        "PatientBirthDate": "19500101",
        "PatientSex": "F",
        "StudyDate": "20260101",
        "StudyTime": "120000",
        "StudyID": str(number),
        "AccessionNumber": f"A{number}",
        "ReferringPhysicianName": "",
        "SeriesNumber": 1,
        "InstanceNumber": 1,
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientOrientation": ["L", "F"],
        "WindowCenter": 2048,
        "WindowWidth": 4096,
    } | tags
    made = dataset_of(pixels, 12, **its)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made
