"""A report's heatmaps as DICOM Secondary Captures: the film in grey, the map over it in colour, a legend."""

from datetime import datetime
from io import BytesIO

import highdicom
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from handlers.decoding.image import read_film
from handlers.findings import FINDINGS
from handlers.report import Report
from pacs import codes
from pacs.film_attributes import DEVICE_NAME, Reference, describe, reference_to
from pacs.heatmap_picture import heatmap_picture
from pacs.identifiers import uid_of

SERIES_NUMBER = 9902
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


def secondary_captures(film: pydicom.Dataset, report: Report, made: datetime | None = None) -> list[pydicom.Dataset]:
    """One for each heatmap in the report, in the order of ``handlers.findings``; none where it has no heatmaps.

    They are of the film's study, in one series, and of modality OT, so that nobody takes them for films. Their UIDs are
    as of ``structured_report``, one per finding.

    Args:
        film: the film's data set with its pixels and its file meta information, as ``dcmread`` gives it.
        report: what the service answered.
        made: when the report was made; now unless given. With it the same object is the same bytes.

    Raises:
        NotReportable: the film has no SOP Class, SOP Instance, Study or Series Instance UID.
        handlers.refusals.RefusedFilm: its pixels cannot be read.
    """
    reference = reference_to(film)
    names = [name for name in FINDINGS if name in (report.heatmaps or {})]
    if not names:
        return []
    grey = _grey(film)
    return [_capture(film, reference, report, name, heatmap_picture(grey, report, name), made) for name in names]


def _grey(film: pydicom.Dataset) -> NDArray[np.uint8]:
    """[H, W] the film as the models get it, by the one decoder, which takes files."""
    file = BytesIO()
    film.save_as(file, enforce_file_format="TransferSyntaxUID" in getattr(film, "file_meta", Dataset()))
    return read_film(file.getvalue())


def _capture(
    film: pydicom.Dataset,
    reference: Reference,
    report: Report,
    name: str,
    picture: NDArray[np.uint8],
    made: datetime | None,
) -> pydicom.Dataset:
    capture = highdicom.SOPClass(
        study_instance_uid=reference.study,
        series_instance_uid=uid_of(reference.instance, report.models, "sc series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid_of(reference.instance, report.models, f"sc {name}"),
        sop_class_uid=SecondaryCaptureImageStorage,
        instance_number=FINDINGS.index(name) + 1,
        modality="OT",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        coding_schemes=[codes.scheme_declaration()],
        series_description=f"{DEVICE_NAME} heatmaps, research use",
    )
    describe(capture, film, report.models, made)
    _derive(capture, film, reference, name)
    capture.SamplesPerPixel, capture.PhotometricInterpretation, capture.PlanarConfiguration = 3, "RGB", 0
    capture.Rows, capture.Columns = picture.shape[:2]
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit, capture.PixelRepresentation = 7, 0
    pixels = picture.tobytes()
    capture.PixelData = pixels + b"\0" * (len(pixels) % 2)
    return capture


def _derive(capture: highdicom.SOPClass, film: pydicom.Dataset, reference: Reference, name: str) -> None:
    """How the picture came about: from the film, by this software, without a screen or a scanner."""
    capture.ConversionType = "WSD"
    capture.DateOfSecondaryCapture, capture.TimeOfSecondaryCapture = capture.ContentDate, capture.ContentTime
    capture.SecondaryCaptureDeviceManufacturer = DEVICE_NAME
    capture.ImageType = ["DERIVED", "SECONDARY", "HEATMAP"]
    meaning = codes.FINDING_CODES[name].meaning
    capture.DerivationDescription = f"Heatmap of {meaning} over the film, in colour"
    capture.ImageComments = meaning
    capture.PatientOrientation = film.get("PatientOrientation")  # type 2C, as the next: of no value where it has none
    capture.Laterality = film.get("Laterality")
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = reference.sop_class, reference.instance
    source.PurposeOfReferenceCodeSequence = [highdicom.sr.CodedConcept.from_code(codes.SOURCE_IMAGE)]
    capture.SourceImageSequence = [source]
    if film.get("LossyImageCompression") == "01":  # once lossy, always lossy (PS3.3, C.7.6.1.1.5)
        for attribute in LOSSY:
            if attribute in film:
                capture[attribute] = film[attribute]
