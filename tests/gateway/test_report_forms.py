"""Reports as DICOM objects and as FHIR: how they are asked for, and what is answered."""

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from gateway import report_forms
from gateway.problems import Problem
from gateway.report_forms import ReportForms, form_asked
from pacs.film_attributes import NOT_FOR_DIAGNOSIS
from pacs.structured_report import NOT_ROUTED
from tests.gateway.conftest import Gateway
from tests.gateway.stand_in import StandIn

FILM = Path(str(get_testdata_file("RG1_UNCR.dcm", download=False))).read_bytes()
"""A real one; the stand-in skips all such."""


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("application/dicom", "dicom-sr"),
        ("Application/DICOM", "dicom-sr"),
        ("application/fhir+json; fhirVersion=4.0", "fhir"),
        ("text/html, application/dicom;q=0.9, */*;q=0.1", "dicom-sr"),
        ("application/json, application/dicom", "json"),
        ("application/json;q=0.2, application/dicom;q=0.5", "dicom-sr"),
        ("application/dicom;q=0, */*", "json"),
        ("application/dicom;q=nonsense", "json"),
        ("text/html", "json"),
        (",;,", "json"),
    ],
)
def test_accept_says_which_form_is_liked_best(accept: str, form: str) -> None:
    assert form_asked(accept, {}) == form


def test_dicomweb_s_way_of_asking_for_several_files_means_secondary_captures() -> None:
    options = {"heatmaps": "Mass"}
    assert form_asked('multipart/related; type="application/dicom"', options) == "dicom-sc"
    assert options == {"heatmaps": "Mass"}


def test_format_comes_before_accept() -> None:
    options = {"format": "json"}
    assert form_asked("application/dicom", options) == "json"
    assert options == {}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "pdf"}, "dicom-seg"),
        ({"format": "dicom-sc"}, "heatmaps"),
        ({"format": "dicom-seg"}, "heatmaps"),
        ({"format": "dicom-sr", "heatmaps": "Mass"}, "no heatmaps"),
        ({"format": "fhir", "heatmaps": "Mass"}, "no heatmaps"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_the_film_is_read(
    roomy: Gateway, torchserve: StandIn, options: dict[str, str], said: str
) -> None:
    answer = roomy.read(FILM, params=options)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:cxr:UnknownParameter")
    assert said in answer.json()["detail"]
    assert torchserve.films == []


@pytest.mark.parametrize("asked", [{"params": {"format": "dicom-sr"}}, {"headers": {"Accept": "application/dicom"}}])
def test_a_dicom_film_gets_a_structured_report(roomy: Gateway, torchserve: StandIn, asked: dict[str, dict]) -> None:
    answer = roomy.read(FILM, **asked)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom")
    document = pydicom.dcmread(BytesIO(answer.content))
    assert document.StudyInstanceUID == pydicom.dcmread(BytesIO(FILM)).StudyInstanceUID
    assert document.ContentSequence[-1].TextValue == f"{NOT_ROUTED} {NOT_FOR_DIAGNOSIS}"
    assert torchserve.films == [FILM]


def test_any_film_gets_fhir(roomy: Gateway, torchserve: StandIn) -> None:
    for film in (FILM, b"film:0.75"):
        answer = roomy.read(film, params={"format": "fhir"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/fhir+json")
        assert answer.json()["resourceType"] == "Bundle"


@pytest.mark.parametrize("form", ["dicom-sc", "dicom-seg"])
def test_a_film_without_heatmaps_has_no_content(roomy: Gateway, torchserve: StandIn, form: str) -> None:
    answer = roomy.read(FILM, params={"format": form, "heatmaps": "all-present"})
    assert (answer.status_code, answer.content) == (204, b"")


def test_no_dicom_object_is_made_of_other_films_nor_are_they_read_for_it(roomy: Gateway, torchserve: StandIn) -> None:
    answer = roomy.read(b"film:0.75", params={"format": "dicom-sr"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:cxr:NotReportable")
    assert torchserve.films == []


def test_nor_of_a_dicom_film_that_names_no_study(roomy: Gateway, torchserve: StandIn) -> None:
    film = pydicom.dcmread(BytesIO(FILM))
    del film.StudyInstanceUID
    file = BytesIO()
    film.save_as(file)
    answer = roomy.read(file.getvalue(), params={"format": "dicom-sr"})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:cxr:NotReportable")
    assert "StudyInstanceUID" in answer.json()["detail"]


def test_a_refused_film_has_the_same_problem_in_every_form(roomy: Gateway, torchserve: StandIn) -> None:
    film = b"refuse:422:NotARadiograph;".ljust(128) + b"DICM"
    for form in ("json", "dicom-sr", "fhir"):
        answer = roomy.read(film, params={"format": form})
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:cxr:NotARadiograph")


def test_a_service_without_the_packages_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_forms, "find_spec", lambda name: None)
    forms = ReportForms()
    forms.check("json", FILM)
    with pytest.raises(Problem) as caught:
        forms.check("dicom-sr", FILM)
    assert (caught.value.status, caught.value.type) == (501, "NotInstalled")


def test_no_patient_field_is_in_the_log(roomy: Gateway, torchserve: StandIn) -> None:
    request = roomy.read(FILM, params={"format": "dicom-sr"}).headers["x-request-id"]
    assert roomy.line(request_id=request)["status"] == 200
    for field in ("CompressedSamples", "9RG1", "exam Number", "19400305"):
        assert field not in roomy.log_text
