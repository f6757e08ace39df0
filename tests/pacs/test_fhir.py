"""A report as FHIR R4, validated by the library of its models."""

import json
import re

import pytest
from fhir.resources.R4B.bundle import Bundle

from handlers.findings import FINDING
from handlers.report import Report
from pacs.fhir import fhir_bundle
from pacs.structured_report import NOT_ROUTED
from tests.pacs.reports import MADE, MODELS, report_of


def resources(report: Report, study: str | None = "1.2.3") -> list[dict]:
    """Of the transaction as a server gets it, which is valid."""
    sent = fhir_bundle(report, "1.2.3.4.5", study, MADE).model_dump_json()
    Bundle.model_validate_json(sent)
    return [entry["resource"] for entry in json.loads(sent)["entry"]]


@pytest.mark.parametrize("routed", [True, False])
def test_there_is_a_report_and_an_observation_for_every_score(routed: bool) -> None:
    report = report_of(routed)
    summary, *observations = resources(report)
    expected = {FINDING: report.finding, **(report.diseases if routed else {})}
    assert [one["code"]["coding"][0]["code"] for one in observations] == list(expected)
    assert len(summary["result"]) == len(expected)
    for one, score in zip(observations, expected.values(), strict=True):
        assert one["valueBoolean"] is score.present
        assert [part["valueQuantity"]["value"] for part in one["component"]] == [score.probability, score.threshold]
    assert {one["status"] for one in (summary, *observations)} == {"preliminary"}
    assert observations[0]["device"]["display"] == f"CXR Cascade binary {MODELS.binary}"


def test_the_conclusion_names_what_is_present_or_says_that_stage_2_did_not_run() -> None:
    report = report_of()
    present = [name for name, score in report.diseases.items() if score.present]
    assert 0 < len(present) < 14
    conclusion = resources(report)[0]["conclusion"]
    assert conclusion.startswith("At or above their operating points: ")
    assert conclusion.count(",") == len(present) - 1
    assert NOT_ROUTED in resources(report_of(routed=False))[0]["conclusion"]
    assert conclusion.endswith("Research use only; not for diagnostic use.")


def test_it_refers_to_the_study_where_there_is_one_and_to_no_patient() -> None:
    summary, observation, *_ = resources(report_of())
    study = {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}
    assert summary["imagingStudy"] == observation["derivedFrom"] == [study]
    for one in (*resources(report_of()), *resources(report_of(), study=None)):
        assert "subject" not in one
    assert "imagingStudy" not in resources(report_of(), study=None)[0]


def test_the_codes_of_snomed_stay_in_dicom() -> None:
    assert "snomed" not in fhir_bundle(report_of(), "1.2.3").model_dump_json()


def test_a_repeat_is_created_once() -> None:
    first, second = (fhir_bundle(report_of(), "1.2.3.4.5", "1.2.3", MADE).model_dump_json() for _ in range(2))
    assert first == second
    bundle = json.loads(first)
    assert bundle["type"] == "transaction"
    addresses = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(set(addresses)) == 16
    assert [one["reference"] for one in bundle["entry"][0]["resource"]["result"]] == addresses[1:]
    for entry in bundle["entry"]:
        (identifier,) = entry["resource"]["identifier"]
        assert re.fullmatch(r"urn:oid:2\.25\.\d+", identifier["value"])
        assert entry["request"] == {
            "method": "POST",
            "url": entry["resource"]["resourceType"],
            "ifNoneExist": f"identifier={identifier['system']}|{identifier['value']}",
        }
