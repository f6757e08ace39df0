"""A report as a DICOM Comprehensive SR: a Measurement Report (PS3.16, TID 1500), which viewers show.

One group of measurements (TID 1501) for stage 1, and one for each of the 14 findings where stage 2 ran: the finding,
its probability and its operating point, present or absent, and which model in which version says so. All of them are of
the whole film, whose frame stands beside each number: OHIF fails on a group without coordinates.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

import numpy as np
import pydicom
from highdicom import sr

from handlers.findings import FINDING
from handlers.report import Report, Score
from pacs import codes
from pacs.film_attributes import (
    DEVICE_NAME,
    NOT_FOR_DIAGNOSIS,
    Reference,
    blank_source,
    describe,
    device_uid,
    reference_to,
)
from pacs.identifiers import uid_of

SERIES_NUMBER = 9901
NOT_ROUTED = (
    "The model of the 14 findings did not run: the probability of any finding is below the operating point. "
    "Nothing is said of single findings, nor that the film is normal."
)


def structured_report(film: pydicom.Dataset, report: Report, made: datetime | None = None) -> pydicom.Dataset:
    """The report as an SR of the film's study, complete with file meta information: ``save_as`` writes a DICOM file.

    Its Study Instance UID and its patient's and study's attributes are the film's; its SOP Instance UID and its Series
    Instance UID follow from the film's SOP Instance UID and the models' versions (``pacs.identifiers``). A film that
    was skipped (``routed`` is false) has an SR that says so and states no single finding.

    Args:
        film: the film's data set; its pixels are not needed (``dcmread(..., stop_before_pixels=True)``).
        report: what the service answered; its heatmaps are not in the SR.
        made: when the report was made; now unless given. With it the same object is the same bytes.

    Raises:
        NotReportable: the film has no SOP Class, SOP Instance, Study or Series Instance UID.
    """
    reference = reference_to(film)
    document = sr.ComprehensiveSR(
        evidence=[blank_source(film)],
        content=_content(reference, film, report)[0],
        series_instance_uid=uid_of(reference.instance, report.models, "sr series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=uid_of(reference.instance, report.models, "sr"),
        instance_number=1,
        manufacturer=DEVICE_NAME,
        is_complete=True,
        is_final=False,
        is_verified=False,
        coding_schemes=[codes.scheme_declaration()],
        series_description=f"{DEVICE_NAME} report, research use",
    )
    describe(document, film, report.models, made)
    return document


def _content(reference: Reference, film: pydicom.Dataset, report: Report) -> sr.MeasurementReport:
    content = sr.MeasurementReport(
        observation_context=_observer(report),
        procedure_reported=codes.PLAIN_RADIOGRAPHY,
        imaging_measurements=list(_groups(reference, film, report)),
    )
    root = content[0].ContentSequence
    measurements = root.pop()
    root.append(_image_library(reference))
    root.append(measurements)
    root.append(_comment(NOT_FOR_DIAGNOSIS if report.routed else f"{NOT_ROUTED} {NOT_FOR_DIAGNOSIS}"))
    return content


def _observer(report: Report) -> sr.ObservationContext:
    models = report.models
    attributes = sr.DeviceObserverIdentifyingAttributes(
        uid=device_uid(models),
        name=DEVICE_NAME,
        manufacturer_name=DEVICE_NAME,
        model_name=f"binary {models.binary}, disease {models.disease}",
    )
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(sr.CodedConcept.from_code(codes.DEVICE), attributes)
    )


def _groups(
    reference: Reference, film: pydicom.Dataset, report: Report
) -> Iterator[sr.MeasurementsAndQualitativeEvaluations]:
    frame = _frame(reference, film)
    stages: list[tuple[str, str, Mapping[str, Score]]] = [("binary", report.models.binary, {FINDING: report.finding})]
    if report.routed:
        stages.append(("disease", report.models.disease, report.diseases))
    for model, version, scores in stages:
        for name, score in scores.items():
            yield sr.MeasurementsAndQualitativeEvaluations(
                tracking_identifier=sr.TrackingIdentifier(
                    uid_of(reference.instance, report.models, f"group {name}"), codes.FINDING_CODES[name].meaning
                ),
                finding_type=codes.FINDING_CODES[name],
                algorithm_id=sr.AlgorithmIdentification(f"{DEVICE_NAME} {model}", version, manufacturer=DEVICE_NAME),
                measurements=[
                    sr.Measurement(concept, value, codes.NO_UNITS, referenced_coordinates=[frame])
                    for concept, value in (
                        (codes.PROBABILITY, score.probability),
                        (codes.OPERATING_POINT, score.threshold),
                    )
                ],
                qualitative_evaluations=[
                    sr.QualitativeEvaluation(codes.PRESENCE, codes.PRESENT if score.present else codes.ABSENT)
                ],
                source_images=[sr.SourceImageForMeasurementGroup(reference.sop_class, reference.instance)],
            )


def _frame(reference: Reference, film: pydicom.Dataset) -> sr.CoordinatesForMeasurement:
    """The film's own outline: what the model saw (PS3.3, C.18.6: column and row, from the top left corner)."""
    right, bottom = float(film.Columns), float(film.Rows)
    corners = np.array([(0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom), (0.0, 0.0)])
    image = sr.SourceImageForRegion(reference.sop_class, reference.instance)
    return sr.CoordinatesForMeasurement(sr.GraphicTypeValues.POLYLINE, corners, image)


def _image_library(reference: Reference) -> sr.ContainerContentItem:
    """TID 1600, by hand: highdicom's own wants a PatientOrientation and a spacing, which many films do not have."""
    image = sr.ImageContentItem(
        codes.SOURCE, reference.sop_class, reference.instance, relationship_type=sr.RelationshipTypeValues.CONTAINS
    )
    library, group = (
        sr.ContainerContentItem(name, relationship_type=sr.RelationshipTypeValues.CONTAINS)
        for name in (codes.IMAGE_LIBRARY, codes.IMAGE_LIBRARY_GROUP)
    )
    group.ContentSequence = sr.ContentSequence([image])
    library.ContentSequence = sr.ContentSequence([group])
    return library


def _comment(text: str) -> sr.TextContentItem:
    return sr.TextContentItem(codes.COMMENT, text, relationship_type=sr.RelationshipTypeValues.CONTAINS)
