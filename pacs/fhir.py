"""A report as FHIR R4: a DiagnosticReport and an Observation for each score, in one transaction for a server.

The models are those of R4B, in which the three resources are as in R4. No field of the patient's is in them: who
receives them finds the patient by the study. Findings are called by the names of ``handlers.findings``; the codes of
SNOMED CT that DICOM objects have are free in those alone.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from fhir.resources.R4B.bundle import Bundle
from pydicom.sr.coding import Code

from handlers.findings import FINDING
from handlers.report import Report, Score
from pacs import codes
from pacs.film_attributes import DEVICE_NAME, NOT_FOR_DIAGNOSIS
from pacs.identifiers import uid_of, uuid_of
from pacs.structured_report import NOT_ROUTED

FINDINGS_SYSTEM, CODES_SYSTEM = "urn:cxr:findings", "urn:cxr:codes"
DCM_SYSTEM, UCUM_SYSTEM = "http://dicom.nema.org/resources/ontology/DCM", "http://unitsofmeasure.org"
OID_SYSTEM, DICOM_UID_SYSTEM = "urn:ietf:rfc3986", "urn:dicom:uid"
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
REPORT_CATEGORY = "http://terminology.hl7.org/CodeSystem/v2-0074"


def fhir_bundle(report: Report, film: str, study: str | None = None, made: datetime | None = None) -> Bundle:
    """The report, all of it preliminary; a server that has it already keeps what it has.

    Args:
        film: the film's SOP Instance UID, or whatever else names it: identifiers follow from it and the models.
        study: its Study Instance UID, where it has one.
        made: when the report was made; now unless given.
    """
    issued = (made or datetime.now(UTC)).astimezone().isoformat(timespec="seconds")
    entries = [_entry(report, film, name, one) for name, one in _observations(report, study, issued)]
    summary = {
        "resourceType": "DiagnosticReport",
        "status": "preliminary",
        "category": [{"coding": [{"system": REPORT_CATEGORY, "code": "RAD", "display": "Radiology"}]}],
        "code": {"text": f"Chest radiograph read by {DEVICE_NAME}"},
        "issued": issued,
        "result": [{"reference": entry["fullUrl"]} for entry in entries],
        "conclusion": _conclusion(report),
    }
    if study:
        summary["imagingStudy"] = [_study(study)]
    entries.insert(0, _entry(report, film, "report", summary))
    return Bundle.model_validate({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def _observations(report: Report, study: str | None, issued: str) -> Iterator[tuple[str, dict[str, Any]]]:
    stages: list[tuple[str, Mapping[str, Score]]] = [(f"binary {report.models.binary}", {FINDING: report.finding})]
    if report.routed:
        stages.append((f"disease {report.models.disease}", report.diseases))
    for model, scores in stages:
        for name, score in scores.items():
            observation = {
                "resourceType": "Observation",
                "status": "preliminary",
                "category": [{"coding": [{"system": OBSERVATION_CATEGORY, "code": "imaging", "display": "Imaging"}]}],
                "code": _finding(name),
                "issued": issued,
                "valueBoolean": score.present,
                "device": {"display": f"{DEVICE_NAME} {model}"},
                "note": [{"text": NOT_FOR_DIAGNOSIS}],
                "component": [
                    _number(DCM_SYSTEM, codes.PROBABILITY, score.probability),
                    _number(CODES_SYSTEM, codes.OPERATING_POINT, score.threshold),
                ],
            }
            if study:
                observation["derivedFrom"] = [_study(study)]
            yield name, observation


def _finding(name: str) -> dict[str, Any]:
    code = codes.FINDING_CODES[name]
    coding = [{"system": FINDINGS_SYSTEM, "code": name, "display": code.meaning}]
    if code.scheme_designator == "DCM":
        coding.append({"system": DCM_SYSTEM, "code": code.value, "display": code.meaning})
    return {"coding": coding, "text": code.meaning}


def _number(system: str, code: Code, value: float) -> dict[str, Any]:
    return {
        "code": {"coding": [{"system": system, "code": code.value, "display": code.meaning}]},
        "valueQuantity": {"value": value, "system": UCUM_SYSTEM, "code": "1"},
    }


def _conclusion(report: Report) -> str:
    if not report.routed:
        return f"{NOT_ROUTED} {NOT_FOR_DIAGNOSIS}"
    present = [codes.FINDING_CODES[name].meaning for name, score in report.diseases.items() if score.present]
    return f"At or above their operating points: {', '.join(present) or 'none of the 14'}. {NOT_FOR_DIAGNOSIS}"


def _study(uid: str) -> dict[str, Any]:
    return {"type": "ImagingStudy", "identifier": {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{uid}"}}


def _entry(report: Report, film: str, kind: str, resource: dict[str, Any]) -> dict[str, Any]:
    identifier = f"urn:oid:{uid_of(film, report.models, f'fhir {kind}')}"
    url = resource["resourceType"]
    return {
        "fullUrl": uuid_of(film, report.models, f"fhir {kind}").urn,
        "resource": resource | {"identifier": [{"system": OID_SYSTEM, "value": identifier}]},
        "request": {"method": "POST", "url": url, "ifNoneExist": f"identifier={OID_SYSTEM}|{identifier}"},
    }
