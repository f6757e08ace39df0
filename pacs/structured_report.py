"""A report as a DICOM Comprehensive SR: a Measurement Report (PS3.16, TID 1500), which viewers show."""

from datetime import datetime

import pydicom

from handlers.report import Report


def structured_report(film: pydicom.Dataset, report: Report, made: datetime | None = None) -> pydicom.Dataset:
    """The report as an SR of the film's study, complete with file meta information: ``save_as`` writes a DICOM file.

    Its Study Instance UID and its patient's and study's attributes are the film's; its SOP Instance UID and its Series
    Instance UID follow from the film's SOP Instance UID and the models' versions (``pacs.identifiers``). A film that was
    skipped (``routed`` is false) has an SR that says so and states no disease.

    Args:
        film: the film's data set; its pixels are not needed (``dcmread(..., stop_before_pixels=True)``).
        report: what the service answered.
        made: when the report was made; now unless given. With it the same object is the same bytes.

    Raises:
        NotReportable: the film has no SOP Class, SOP Instance or Study Instance UID.
    """
    raise NotImplementedError
