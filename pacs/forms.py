"""A film's report in the forms in which others than the gateway's clients take it: DICOM files and FHIR."""

import hashlib
from datetime import datetime
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

from handlers.decoding.containers import is_dicom
from handlers.refusals import RefusedFilm
from handlers.report import Report
from pacs.film_attributes import NotReportable, reference_to
from pacs.secondary_capture import secondary_captures
from pacs.segmentation import segmentation
from pacs.structured_report import structured_report

SR, SC, SEG, FHIR = "dicom-sr", "dicom-sc", "dicom-seg", "fhir"


def files_of(form: str, film: bytes, report: Report, made: datetime | None = None) -> list[bytes]:
    """The report's files in a form: one as SR or FHIR, one a heatmap as SC, one or none as SEG.

    Args:
        form: ``SR``, ``SC``, ``SEG`` or ``FHIR``.
        film: the film's own file.
        made: when the report was made; now unless given.

    Raises:
        NotReportable: a DICOM object of a film that is none, or that lacks what ties an object to it.
        RefusedFilm: its pixels cannot be read.
    """
    if form == FHIR:
        return [_fhir(film, report, made)]
    data = read_data_set(film)
    if form == SR:
        return [_written(structured_report(data, report, made))]
    if form == SC:
        return [_written(capture) for capture in secondary_captures(data, report, made)]
    regions = segmentation(data, report, made)
    return [] if regions is None else [_written(regions)]


def read_data_set(film: bytes) -> pydicom.Dataset:
    """A film's file as pydicom reads it.

    Raises:
        NotReportable: it is no DICOM file, or pydicom gives up on it.
    """
    if not is_dicom(film[:256]):
        raise NotReportable("the film is no DICOM file: a report as a DICOM object is of the film's own study")
    try:
        return pydicom.dcmread(BytesIO(film), force=True)
    except Exception as fault:  # pydicom may raise anything on hostile bytes
        raise NotReportable(f"the film's DICOM attributes cannot be read ({type(fault).__name__})") from fault


def form_of(film: bytes, form: str, report: str, boundary: str) -> bytes:
    """``files_of`` for ``handlers.decoding.process_pool``: texts in, bytes out; none where there is no file.

    Args:
        report: as JSON.
        boundary: between the parts of what may be several files (``multipart/related``, RFC 2387); "" for one file.

    Raises:
        RefusedFilm: NotReportable, or its pixels cannot be read.
    """
    try:
        files = files_of(form, film, Report.model_validate_json(report))
    except NotReportable as fault:
        raise RefusedFilm("NotReportable", str(fault)) from fault
    if not boundary or not files:
        return b"".join(files)
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + file + b"\r\n" for file in files) + f"--{boundary}--\r\n".encode()


def _fhir(film: bytes, report: Report, made: datetime | None) -> bytes:
    from pacs.fhir import fhir_bundle  # its library takes seconds to import

    try:
        reference = reference_to(read_data_set(film))
        name, study = reference.instance, reference.study
    except NotReportable:
        name, study = f"sha256:{hashlib.sha256(film).hexdigest()}", None
    return fhir_bundle(report, name, study, made).model_dump_json(exclude_none=True).encode()


def _written(data: Dataset) -> bytes:
    file = BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()
