"""A report as a DICOM SR: what it says is what the report says, about the film that the report is of."""

import logging
import re
import warnings
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import highdicom
import pydicom
import pytest
from pydicom import Dataset
from pydicom.sr.codedict import codes as public

from handlers.findings import FINDING, FINDINGS
from handlers.report import ModelVersions, Report, Score
from pacs import codes
from pacs.film_attributes import NotReportable
from pacs.structured_report import NOT_ROUTED, structured_report
from tests.pacs.reports import FILMS, MADE, MODELS, real_film, report_of

NAMES = {(code.scheme_designator, code.value): name for name, code in codes.FINDING_CODES.items()}
COPIED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "StudyDescription", "SpecificCharacterSet"),
)


def read_back(path: Path) -> Report:
    """The report that highdicom's own parser finds in a file."""
    scores: dict[str, Score] = {}
    versions: dict[str, str] = {}
    for group in highdicom.sr.srread(path).content.get_image_measurement_groups():
        name = NAMES[group.finding_type.scheme_designator, group.finding_type.value]
        (probability,), (threshold,) = (
            group.get_measurements(name=concept) for concept in (codes.PROBABILITY, codes.OPERATING_POINT)
        )
        (presence,) = group.get_qualitative_evaluations(name=codes.PRESENCE)
        assert presence.value in (codes.PRESENT, codes.ABSENT)
        scores[name] = Score(
            probability=probability.value, threshold=threshold.value, present=presence.value == codes.PRESENT
        )
        model, version = (
            next(item.TextValue for item in group[0].ContentSequence if item.name == concept)
            for concept in (public.DCM.AlgorithmName, public.DCM.AlgorithmVersion)
        )
        versions[model.removeprefix("CXR Cascade ")] = version
    finding = scores.pop(FINDING)
    return Report(
        finding=finding,
        routed=bool(scores),
        diseases=scores or dict.fromkeys(FINDINGS, Score.at(0.0, 1.0)),
        models=ModelVersions(**({"disease": ""} | versions)),
    )


@pytest.fixture(scope="module", params=FILMS)
def film(request: pytest.FixtureRequest) -> Dataset:
    return FILMS[request.param]()


@pytest.fixture(scope="module")
def document(film: Dataset) -> Dataset:
    return structured_report(film, report_of(), MADE)


def test_highdicom_s_parser_reads_the_report_back_to_the_last_digit(document: Dataset, tmp_path: Path) -> None:
    document.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert read_back(tmp_path / "sr.dcm") == report_of()


def test_a_skipped_film_has_a_report_that_says_so_and_names_no_finding(tmp_path: Path) -> None:
    report = report_of(routed=False)
    document = structured_report(real_film("RG1_UNCR.dcm"), report, MADE)
    document.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    back = read_back(tmp_path / "sr.dcm")
    assert (back.finding, back.routed, back.models.binary) == (report.finding, False, MODELS.binary)
    assert NOT_ROUTED in document.ContentSequence[-1].TextValue
    assert structured_report(real_film("RG1_UNCR.dcm"), report_of(), MADE).ContentSequence[-1].TextValue == (
        "Research use only; not for diagnostic use."
    )


def test_it_is_of_the_film_s_study_and_refers_to_the_film(film: Dataset, document: Dataset) -> None:
    assert document.StudyInstanceUID == film.StudyInstanceUID
    assert film.SeriesInstanceUID != document.SeriesInstanceUID
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (film.StudyInstanceUID, film.SeriesInstanceUID)
    assert (instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID) == (
        film.SOPClassUID,
        film.SOPInstanceUID,
    )


def test_the_patient_s_and_the_study_s_attributes_are_the_film_s(film: Dataset, document: Dataset) -> None:
    for name in COPIED:
        assert document.get(name) == film.get(name), name


@pytest.mark.parametrize(
    ("charset", "name"), [("ISO_IR 192", "Müller^Zoë"), ("ISO_IR 144", "Люкceмбypг^Анна"), ("ISO_IR 100", "Ångström^Å")]
)
def test_names_in_other_letters_arrive(charset: str, name: str) -> None:
    film = real_film("RG1_UNCR.dcm")
    film.SpecificCharacterSet, film.PatientName = charset, name
    file = BytesIO()
    structured_report(film, report_of(), MADE).save_as(file, enforce_file_format=True)
    assert pydicom.dcmread(BytesIO(file.getvalue())).PatientName == name


def test_a_film_with_values_that_no_standard_allows_is_reported_on_and_none_of_them_is_said_aloud(
    caplog: pytest.LogCaptureFixture,
) -> None:
    film = real_film("RG1_UNCR.dcm")
    with pydicom.config.disable_value_validation():
        film.PatientSex, film.StudyDate, film.PatientName = "WEIBLICH!!", "17. Mai", "A=B=C=D=E"
        film.AccessionNumber, film.StudyID = "Accession-Secret-0000001", "Secret" * 9
    film.add_new("PatientWeight", "LO", "70 kg")  # which has to be a number
    file = BytesIO()
    film.save_as(file)
    raw = pydicom.dcmread(BytesIO(file.getvalue().replace(b"LO\x06\x0070 kg", b"DS\x06\x0070 kg")))
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        document = structured_report(raw, report_of(), MADE)
        document.save_as(BytesIO(), enforce_file_format=True)
    assert (document.PatientSex, document.StudyDate) == ("WEIBLICH!!", "17. Mai")
    assert document.AccessionNumber == "Accession-Secret-0000001"
    assert document.PatientWeight == "70 kg"
    said = " ".join([caplog.text, *(str(one.message) for one in warned)])
    assert not re.search("WEIBLICH|Mai|A=B|Secret|70 kg|RG1", said)


def test_a_repeat_is_the_same_object_byte_by_byte_and_at_another_time_has_the_same_uids() -> None:
    film, files = real_film("RG1_UNCR.dcm"), list[bytes]()
    for _ in range(2):
        file = BytesIO()
        structured_report(film, report_of(), MADE).save_as(file, enforce_file_format=True)
        files.append(file.getvalue())
    assert files[0] == files[1]
    first, later = (structured_report(film, report_of(), made) for made in (MADE, None))
    assert (first.SOPInstanceUID, first.SeriesInstanceUID) == (later.SOPInstanceUID, later.SeriesInstanceUID)


def test_other_models_make_another_object() -> None:
    film, report = real_film("RG1_UNCR.dcm"), report_of()
    newer = report.model_copy(update={"models": ModelVersions(binary="1.2.0", disease="2.0.0")})
    assert structured_report(film, report).SOPInstanceUID != structured_report(film, newer).SOPInstanceUID


def test_its_time_goes_by_the_film_s_clock() -> None:
    film = real_film("RG1_UNCR.dcm")
    document = structured_report(film, report_of(), datetime(2026, 3, 9, 2, 30, tzinfo=UTC))
    assert film.TimezoneOffsetFromUTC == document.TimezoneOffsetFromUTC == "-0400"
    assert (document.ContentDate, document.ContentTime) == ("20260308", "223000")


def test_it_says_that_it_is_preliminary_of_a_device_and_for_research() -> None:
    document = structured_report(real_film("RG1_UNCR.dcm"), report_of(), MADE)
    assert (document.PreliminaryFlag, document.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    assert document.ContentQualification == "RESEARCH"
    file = BytesIO()
    document.save_as(file, enforce_file_format=True)
    (observer,) = highdicom.sr.srread(BytesIO(file.getvalue())).content.get_observer_contexts()
    assert observer.observer_type == public.DCM.Device
    assert observer.observer_identifying_attributes.name == "CXR Cascade"
    (scheme,) = document.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == codes.SCHEME


def test_viewers_find_what_they_need() -> None:
    """OHIF: the title, an image library, and coordinates on the film below each number."""
    document = structured_report(real_film("RG1_UNCR.dcm"), report_of(), MADE)
    assert document.ConceptNameCodeSequence[0].CodeValue == "126000"
    (template,) = document.ContentTemplateSequence
    assert template.TemplateIdentifier == "1500"
    containers = {item.name.meaning: item for item in document.content[0].ContentSequence}
    (group,) = containers["Image Library"].ContentSequence
    assert group.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == document_film_uid()
    numbers = [
        item
        for group in containers["Imaging Measurements"].ContentSequence
        for item in group.ContentSequence
        if item.ValueType == "NUM"
    ]
    assert len(numbers) == 2 * 15
    for number in numbers:
        (outline,) = number.ContentSequence
        assert list(outline.GraphicData) == [0.0, 0.0, 1841.0, 0.0, 1841.0, 1955.0, 0.0, 1955.0, 0.0, 0.0]


def document_film_uid() -> str:
    return str(real_film("RG1_UNCR.dcm").SOPInstanceUID)


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_film_that_an_object_cannot_name_is_no_ground_for_one_and_the_attribute_is_said(name: str) -> None:
    film = real_film("RG1_UNCR.dcm")
    del film[name]
    with pytest.raises(NotReportable, match=f"no {name}"):
        structured_report(film, report_of())


def test_a_film_may_name_itself_in_its_file_meta_information_alone() -> None:
    film = real_film("RG1_UNCR.dcm")
    expected = structured_report(film, report_of(), MADE).SOPInstanceUID
    del film.SOPClassUID, film.SOPInstanceUID
    assert structured_report(film, report_of(), MADE).SOPInstanceUID == expected
