"""A report's heatmaps as DICOM Secondary Captures: the film in grey, the map over it in colour, a legend."""

from datetime import datetime

import pydicom

from handlers.report import Report


def secondary_captures(film: pydicom.Dataset, report: Report, made: datetime | None = None) -> list[pydicom.Dataset]:
    """One for each heatmap in the report, in the order of ``handlers.findings``; none where it has no heatmaps.

    They are of the film's study, in one series; UIDs as of ``structured_report``, one per finding.

    Args:
        film: the film's data set with its pixels and its file meta information, as ``dcmread`` gives it.
        report: what the service answered.
        made: when the report was made; now unless given. With it the same object is the same bytes.

    Raises:
        NotReportable: the film has no SOP Class, SOP Instance or Study Instance UID.
        handlers.refusals.RefusedFilm: its pixels cannot be read.
    """
    raise NotImplementedError
