"""Films as archives hold them, and reports to make objects of."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import pydicom
from PIL import Image
from pydicom import Dataset, uid
from pydicom.data import get_testdata_file

from handlers.findings import FINDINGS
from handlers.report import ModelVersions, Report, Score

MADE = datetime(2026, 3, 9, 23, 30, 15, tzinfo=UTC)
MODELS = ModelVersions(binary="1.2.0", disease="1.3.1+site.2")
ABSENT = ("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName", "PatientBirthDate")


def real_film(name: str) -> Dataset:
    """One of the package pydicom-data."""
    return pydicom.dcmread(str(get_testdata_file(name, download=False)))


def _without(film: Dataset, *names: str) -> Dataset:
    for name in names:
        if name in film:
            del film[name]
    return film


def _digital() -> Dataset:
    """A chest film as a DX object without the study's attributes, the patient's orientation, and a sex."""
    film = _without(real_film("RG1_UNCR.dcm"), *ABSENT, "PatientOrientation", "PatientSex", "PatientName", "PatientID")
    film.Modality, film.SOPClassUID = "DX", uid.DigitalXRayImageStorageForPresentation
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID
    return film


FILMS = {
    "CR": lambda: real_film("RG1_UNCR.dcm"),
    "CR without orientation": lambda: _without(real_film("RG1_UNCR.dcm"), "PatientOrientation"),
    "CR, lossless JPEG 2000": lambda: real_film("RG1_J2KR.dcm"),
    "CR, lossy JPEG 2000": lambda: real_film("RG1_J2KI.dcm"),
    "CR of the right leg": lambda: real_film("RG3_UNCR.dcm"),
    "DX without study": _digital,
}
"""Real radiographs, and what else archives make of them."""


def heatmap(shape: tuple[int, int], column: float, row: float) -> str:
    """A map of one spot, at these shares of the film's width and height, as the service sends it."""
    down, across = np.mgrid[0 : shape[0], 0 : shape[1]]
    far = ((across / shape[1] - column) ** 2 + (down / shape[0] - row) ** 2) / 0.02
    png = BytesIO()
    Image.fromarray(np.rint(255.0 * np.exp(-far)).astype(np.uint8)).save(png, "PNG")
    return b64encode(png.getvalue()).decode()


def report_of(routed: bool = True, maps: Sequence[str] = (), shape: tuple[int, int] = (64, 48)) -> Report:
    """Every score another, of as many digits as a float has; maps with their spots in different places."""
    finding = Score.at(0.8123456789012345 if routed else 0.0987654321098765, 0.3141592653589793)
    shares = {name: (number + 0.5) / 17.3 if routed else 0.0 for number, name in enumerate(FINDINGS)}
    return Report(
        finding=finding,
        routed=routed,
        diseases={name: Score.at(share, 0.35 + number / 77) for number, (name, share) in enumerate(shares.items())},
        models=MODELS,
        heatmaps={name: heatmap(shape, (at + 1) / (len(maps) + 1), 0.25) for at, name in enumerate(maps)} or None,
    )
