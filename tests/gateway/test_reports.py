"""``POST /v1/reports``: what it answers, to whom, and what it leaves in metrics and log."""

import re
import subprocess
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from gateway.keys import KEYS_FILE, make, revoke
from handlers.report import Report
from tests.gateway.conftest import Gateway
from tests.gateway.stand_in import StandIn, content, report_of

HEX = re.compile(r"[0-9a-f]{32}")


def test_a_film_gets_its_report(roomy: Gateway, torchserve: StandIn) -> None:
    routed, skipped = roomy.read(b"film:0.75"), roomy.read(b"film:0.25")
    assert (routed.status_code, routed.headers["content-type"]) == (200, "application/json")
    assert Report(**content(routed)) == report_of(0.75)
    assert Report(**content(skipped)) == report_of(0.25)
    assert torchserve.films == [b"film:0.75", b"film:0.25"]
    assert torchserve.paths == ["/wfpredict/chest_xray"] * 2


def test_nothing_of_the_client_s_headers_reaches_torchserve(roomy: Gateway, torchserve: StandIn) -> None:
    roomy.read(b"film:0.5", headers={"Cookie": "a=b", "X-Forwarded-For": "1.2.3.4", "X-Heatmaps": "all"})
    sent = torchserve.headers[0]
    assert sent["authorization"] == "Bearer inference-token"
    assert not {"cookie", "x-forwarded-for", "x-heatmaps", "user-agent"} & set(sent)


@pytest.mark.parametrize("type", ["application/octet-stream", "image/png", "application/dicom", "", None])
def test_a_body_is_the_film(roomy: Gateway, torchserve: StandIn, type: str | None) -> None:
    answer = roomy.read(b"film:0.625", headers={} if type is None else {"Content-Type": type})
    assert content(answer) == report_of(0.625).model_dump()


def test_curl_reads_a_film_as_body_and_as_form_field(roomy: Gateway, torchserve: StandIn, tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(b"film:0.875")
    for option in ("--data-binary @film.png", "-F data=@film.png", "-H 'Content-Type: image/png' -T film.png -X POST"):
        line = f"curl -sS -H 'Authorization: Bearer {roomy.key}' {option} {roomy.url}/v1/reports"
        answer = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, check=True).stdout
        assert content(answer) == report_of(0.875).model_dump()
    assert torchserve.films == [b"film:0.875"] * 3


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_refused_film_gets_the_cascade_s_words(roomy: Gateway, torchserve: StandIn, status: int) -> None:
    answer = roomy.read(f"refuse:{status}:NotARadiograph".encode(), headers={"X-Request-ID": "film-7"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json() == {
        "type": "urn:cxr:NotARadiograph",
        "title": "Not a radiograph",
        "status": status,
        "detail": "the cascade's own words",
        "instance": "film-7",
    }


def test_a_fault_inside_is_503_and_no_invitation_to_send_the_film_again(roomy: Gateway, torchserve: StandIn) -> None:
    answer = roomy.read(b"refuse:500:InternalError")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:cxr:InternalError")
    assert "retry-after" not in answer.headers


def test_a_worker_whose_every_film_is_a_fault_is_not_called_ready(start_gateway, torchserve: StandIn) -> None:
    gateway = start_gateway(restart_after=3600)
    torchserve.up = False
    gateway.read(b"refuse:500:InternalError")
    gateway.until(lambda: gateway.state()["torchserve"] == "failing")
    torchserve.up = True
    gateway.until(lambda: gateway.state()["torchserve"] == "ready")


def test_a_torchserve_that_gives_no_report_is_503_with_a_time_to_try_again(roomy: Gateway, torchserve: StandIn) -> None:
    answer = roomy.read(b"status:500")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:cxr:NotServed")
    assert answer.headers["retry-after"] == "5"
    assert "a worker died" not in answer.text + roomy.log_text
    roomy.until(lambda: roomy.state()["ready"] is True)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer wrong")],
        [("Authorization", "Bearer")],
        [("Authorization", "Basic {key}")],
        [("Authorization", "{key}")],
        [("Authorization", "Bearer {key}"), ("Authorization", "Bearer {key}")],
        [("Authorization", "Bearer {key}, Bearer {key}")],
    ],
)
def test_without_one_good_key_no_film_is_read(
    roomy: Gateway, torchserve: StandIn, headers: list[tuple[str, str]]
) -> None:
    filled = [(name, value.replace("{key}", roomy.key)) for name, value in headers]
    answer = httpx.post(f"{roomy.url}/v1/reports", content=b"film:0.5", headers=filled)
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:cxr:Unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert torchserve.films == []


def test_a_key_is_good_from_when_it_is_made_until_it_is_revoked(roomy: Gateway, torchserve: StandIn) -> None:
    key = make(roomy.secrets / KEYS_FILE, "guest")
    headers = {"Authorization": f"Bearer {key}"}
    assert roomy.read(b"film:0.5", headers=headers).status_code == 200
    assert roomy.line(key="guest")["status"] == 200
    revoke(roomy.secrets / KEYS_FILE, "guest")
    assert roomy.read(b"film:0.5", headers=headers).status_code == 401


@pytest.mark.parametrize("size", [1_000, 20_000_000])
def test_a_stranger_s_body_is_not_read_and_the_answer_arrives(roomy: Gateway, torchserve: StandIn, size: int) -> None:
    before = roomy.metric('cxr_gateway_seconds_count{stage="upload"}')
    with httpx.Client() as client:  # one connection: what follows on it must be understood
        answer = client.post(f"{roomy.url}/v1/reports", content=bytes(size), timeout=30)
        assert answer.status_code == 401
        assert client.get(f"{roomy.url}/health/live").json() == {"live": True}
    assert roomy.metric('cxr_gateway_seconds_count{stage="upload"}') == before


def test_an_unknown_query_parameter_is_refused_by_name(roomy: Gateway, torchserve: StandIn) -> None:
    answer = roomy.read(b"film:0.5", params={"heatmap": "Effusion"})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:cxr:UnknownParameter")
    assert "'heatmap'" in answer.json()["detail"]
    assert torchserve.films == []


@pytest.mark.parametrize("asked", ["Effusion,Mass", "all-present", "", "Pleural Effusion"])
def test_the_heatmaps_that_are_asked_for_reach_the_cascade_beside_the_film(
    roomy: Gateway, torchserve: StandIn, asked: str
) -> None:
    """What names are good is for the cascade to say."""
    assert roomy.read(b"film:0.75", params={"heatmaps": asked}).status_code == 200
    (form,) = torchserve.films
    assert f'name="heatmaps"\r\n\r\n{asked}\r\n--'.encode() in form
    assert b"\r\n\r\nfilm:0.75\r\n--" in form
    assert torchserve.headers[0]["content-type"].startswith("multipart/form-data; boundary=")


def test_heatmaps_are_asked_for_once(roomy: Gateway, torchserve: StandIn) -> None:
    answer = roomy.read(b"film:0.5", params={"heatmaps": ["Effusion", "Mass"]})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:cxr:UnknownParameter")
    assert "'heatmaps'" in answer.json()["detail"]
    assert torchserve.films == []


@pytest.mark.parametrize("given", ["ward-3.film_12", "a" * 64])
def test_a_request_id_comes_back_and_reaches_the_log(roomy: Gateway, torchserve: StandIn, given: str) -> None:
    answer = roomy.read(b"film:0.5", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == given
    assert roomy.line(request_id=given)["status"] == 200


@pytest.mark.parametrize("given", ["", "a" * 65, "DOE^JOHN", 'x" y', "a\tb"])
def test_a_request_id_of_another_form_is_replaced(roomy: Gateway, torchserve: StandIn, given: str) -> None:
    answer = roomy.read(b"film:0.5", headers={"X-Request-ID": given})
    assert HEX.fullmatch(answer.headers["x-request-id"])


def test_every_answer_has_a_request_id(roomy: Gateway) -> None:
    answers = [roomy.get(path) for path in ("/health/live", "/health/ready", "/metrics", "/docs", "/nowhere")]
    answers += [roomy.read(b""), httpx.post(f"{roomy.url}/v1/reports"), roomy.get("/v1/reports")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 404, 400, 401, 405]
    assert all(HEX.fullmatch(answer.headers["x-request-id"]) for answer in answers)


def test_requests_are_counted_by_outcome_and_films_by_route(roomy: Gateway, torchserve: StandIn) -> None:
    def counted() -> dict[str, float]:
        names = [f'cxr_gateway_requests_total{{outcome="{name}"}}' for name in ("read", "refused", "unauthorized")]
        names += [f'cxr_gateway_films_total{{route="{name}"}}' for name in ("routed", "skipped")]
        names += ['cxr_gateway_refused_total{type="UnreadableImage"}', 'cxr_gateway_seconds_count{stage="read"}']
        return {name: roomy.metric(name) for name in names}

    before = counted()
    for film in (b"film:0.75", b"film:0.25", b"film:0.125", b"refuse:400:UnreadableImage"):
        roomy.read(film)
    httpx.post(f"{roomy.url}/v1/reports")
    assert [after - first for after, first in zip(counted().values(), before.values(), strict=True)] == [
        *(3, 1, 1),
        *(1, 2),
        *(1, 4),
    ]


def test_the_log_has_a_line_of_json_per_request(roomy: Gateway, torchserve: StandIn) -> None:
    roomy.read(b"film:0.75", headers={"X-Request-ID": "one-film"})
    roomy.read(b"refuse:400:TruncatedImage", headers={"X-Request-ID": "a-bad-one"})
    good, bad = (roomy.line(request_id=name) for name in ("one-film", "a-bad-one"))
    assert (good["level"], good["key"], good["status"]) == ("INFO", "tests", 200)
    assert (good["routed"], good["bytes"], set(good["milliseconds"])) == (
        True,
        len(b"film:0.75"),
        {"upload", "wait", "read", "total"},
    )
    assert (bad["status"], bad["type"]) == (400, "TruncatedImage")


def test_the_log_holds_nothing_of_the_film_or_its_name(roomy: Gateway, torchserve: StandIn, tmp_path: Path) -> None:
    film = dicom_of("Doe^Jane^Testperson", "PID-no4711")
    assert b"Testperson" in film
    assert roomy.read(film).status_code == 200
    form = {"data": ("Testperson-no4711.dcm", film, "application/dicom")}
    headers = {"Authorization": f"Bearer {roomy.key}"}
    assert httpx.post(f"{roomy.url}/v1/reports", files=form, headers=headers).status_code == 200
    wrong = {"Testperson": ("x.dcm", film)}
    assert httpx.post(f"{roomy.url}/v1/reports", files=wrong, headers=headers).status_code == 400
    assert roomy.get("/v1/Testperson/no4711?name=Testperson").status_code == 404
    assert roomy.read(film, params={"Testperson": "no4711"}).status_code == 400
    last = roomy.read(film, headers={"X-Request-ID": "Testperson^no4711"})
    assert last.status_code == 200
    assert roomy.line(request_id=last.headers["x-request-id"])["bytes"] == len(film)
    assert not re.search("Testperson|no4711|film:|DICM", roomy.log_text)
    assert roomy.key not in roomy.log_text


def dicom_of(name: str, id: str) -> bytes:
    film = Dataset()
    film.PatientName, film.PatientID, film.Modality = name, id, "DX"
    film.Rows = film.Columns = 8
    film.BitsAllocated = film.BitsStored = 8
    film.HighBit, film.PixelRepresentation, film.SamplesPerPixel = 7, 0, 1
    film.PhotometricInterpretation = "MONOCHROME2"
    film.PixelData = np.zeros((8, 8), np.uint8).tobytes()
    film.SOPClassUID, film.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID
    buffer = BytesIO()
    film.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
