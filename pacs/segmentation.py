"""A report's heatmaps as one DICOM Segmentation: a region for each, for viewers that lay it over the film."""

from datetime import datetime

import highdicom
import numpy as np
import pydicom
from highdicom import seg
from numpy.typing import NDArray
from PIL import Image

from handlers.findings import FINDINGS
from handlers.report import Report
from pacs import codes
from pacs.film_attributes import DEVICE_NAME, blank_source, describe, reference_to
from pacs.heatmap_picture import heatmap_of
from pacs.identifiers import uid_of

SERIES_NUMBER = 9903
OUTLINE = 0.5
"""Share of a map's maximum from which on a pixel is in its region."""


def segmentation(film: pydicom.Dataset, report: Report, made: datetime | None = None) -> pydicom.Dataset | None:
    """Where each heatmap of the report reaches half of its maximum, on the film's own pixels; None where none does.

    A region is where the model's evidence lies, not the outline of a lesion, and its label says so. UIDs are as of
    ``structured_report``; other maps of the same film make another object.

    Args:
        film: the film's data set; its pixels are not needed.
        report: what the service answered.
        made: when the report was made; now unless given. With it the same object is the same bytes.

    Raises:
        NotReportable: the film has no SOP Class, SOP Instance, Study or Series Instance UID.
    """
    reference, models = reference_to(film), report.models
    shape = int(film.Rows), int(film.Columns)
    regions = {name: _region(report, name, shape) for name in FINDINGS if name in (report.heatmaps or {})}
    names = [name for name, region in regions.items() if region.any()]
    if not names:
        return None
    source = blank_source(film)
    source.Modality = "OT"  # which highdicom reads, and makes no use of
    instance = uid_of(reference.instance, models, f"seg {' '.join(names)}")
    made_of = seg.Segmentation(
        source_images=[source],
        pixel_array=np.stack([regions[name] for name in names], axis=-1)[None],
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(number, name, report) for number, name in enumerate(names, 1)],
        series_instance_uid=uid_of(reference.instance, models, "seg series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=instance,
        instance_number=1,
        manufacturer=DEVICE_NAME,
        manufacturer_model_name=DEVICE_NAME,
        software_versions=models.disease,
        device_serial_number=models.disease,
        content_label="HEATMAP_REGIONS",
        content_description="Where heatmaps reach half of their maximum",
        coding_schemes=[codes.scheme_declaration()],
        series_description=f"{DEVICE_NAME} heatmap regions, research use",
    )
    describe(made_of, film, models, made)
    made_of.PatientOrientation = film.get("PatientOrientation")  # type 2C: of no value where the film has none
    _fix_dimensions(made_of, uid_of(reference.instance, models, "seg dimensions"))
    return made_of


def _region(report: Report, name: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    values = np.asarray(heatmap_of(report, name).resize(shape[::-1], Image.Resampling.BILINEAR))
    return (values > 0) & (values >= OUTLINE * values.max())


def _segment(number: int, name: str, report: Report) -> seg.SegmentDescription:
    model = highdicom.AlgorithmIdentificationSequence(
        name=f"{DEVICE_NAME} disease",
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=report.models.disease,
    )
    return seg.SegmentDescription(
        segment_number=number,
        segment_label=f"Evidence of {codes.FINDING_CODES[name].meaning}",
        segmented_property_category=codes.ABNORMAL_STRUCTURE,
        segmented_property_type=codes.FINDING_CODES[name],
        algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=model,
    )


def _fix_dimensions(made_of: pydicom.Dataset, uid: str) -> None:
    """highdicom draws a UID for the dimensions; ours follows from the film, for a repeat to be the same object."""
    for item in (*made_of.DimensionOrganizationSequence, *made_of.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid
