"""What metrics count and the log tells of pictures, studies, heatmaps, and of clients that hang up."""

import re
from typing import Any

import httpx
import pytest

from tests.gateway.conftest import Gateway
from tests.gateway.stand_in import StandIn


def requests_of(gateway: Gateway, path: str, **labels: str) -> float:
    pairs = ",".join(f'{name}="{value}"' for name, value in {"path": path, **labels}.items())
    return gateway.metric(f"cxr_gateway_requests_total{{{pairs}}}")


def post(gateway: Gateway, path: str, **request: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {gateway.key}", **request.pop("headers", {})}
    return gateway.call("POST", path, headers=headers, **request)


def test_pictures_are_counted_and_logged(roomy: Gateway) -> None:
    before = requests_of(roomy, "/v1/films", outcome="refused")
    assert post(roomy, "/v1/films", content=b"no film", headers={"X-Request-ID": "picture-1"}).status_code == 400
    assert requests_of(roomy, "/v1/films", outcome="refused") == before + 1
    line = roomy.line(request_id="picture-1")
    assert (line["key"], line["type"], line["bytes"]) == ("tests", "UnreadableImage", len(b"no film"))
    assert set(line["milliseconds"]) == {"upload", "wait", "read", "total"}


def test_a_study_is_counted_and_so_is_each_of_its_films_under_an_id_of_its_own(
    roomy: Gateway, torchserve: StandIn
) -> None:
    films = [("data", ("a", film)) for film in (b"film:0.75", b"film:0.25", b"refuse:422:BlankImage")]
    before = [requests_of(roomy, path, outcome="read") for path in ("/v1/studies", "study film")]
    refused = requests_of(roomy, "study film", outcome="refused")
    assert post(roomy, "/v1/studies", files=films, headers={"X-Request-ID": "study-1"}).status_code == 200
    study = roomy.line(event="request", request_id="study-1")
    assert (study["key"], study["status"], study["bytes"]) == ("tests", 200, 9 + 9 + 21)
    assert [requests_of(roomy, path, outcome="read") for path in ("/v1/studies", "study film")] == [
        before[0] + 1,
        before[1] + 2,
    ]
    assert requests_of(roomy, "study film", outcome="refused") == refused + 1
    lines = [roomy.line(event="film", request_id=f"study-1.{number}") for number in range(3)]
    assert [line.get("routed") for line in lines] == [True, False, None]
    assert [(line["status"], line.get("type")) for line in lines] == [(200, None), (200, None), (422, "BlankImage")]
    assert all(line["key"] == "tests" and line["bytes"] > 0 for line in lines)
    assert all(set(line["milliseconds"]) == {"wait", "read", "total"} for line in lines)
    assert {one["x-request-id"] for one in torchserve.headers} == {f"study-1.{number}" for number in range(3)}


def test_a_study_that_is_refused_as_a_whole_is_counted(roomy: Gateway) -> None:
    before = requests_of(roomy, "/v1/studies", outcome="rejected")
    assert post(roomy, "/v1/studies", content=b"film:0.5").status_code == 415
    assert requests_of(roomy, "/v1/studies", outcome="rejected") == before + 1


@pytest.mark.parametrize("headers", [{"Content-Encoding": "gzip"}])
def test_a_compressed_study_is_refused_as_a_film_is(roomy: Gateway, headers: dict[str, str]) -> None:
    files = [("data", ("a", b"film:0.5"))]
    assert post(roomy, "/v1/studies", files=files, headers=headers).json()["type"] == "urn:cxr:UnsupportedMediaType"


def test_a_heatmap_of_a_film_does_not_count_as_another_film_read(roomy: Gateway, torchserve: StandIn) -> None:
    def counted() -> list[float]:
        kinds = [(route, heatmaps) for route in ("routed", "skipped") for heatmaps in ("false", "true")]
        return [roomy.metric(f'cxr_gateway_films_total{{route="{a}",heatmaps="{b}"}}') for a, b in kinds]

    before = counted()
    roomy.read(b"film:0.75")
    roomy.read(b"film:0.25")
    for _ in range(3):
        roomy.read(b"film:0.75", params={"heatmaps": "Mass"})
    now = counted()
    assert now[0] - before[0] == 1
    assert now[2] - before[2] == 1
    assert sum(now) - sum(before) == 5


@pytest.mark.parametrize(
    ("path", "body", "type"),
    [
        ("/v1/reports", b"held:film:0.1", "application/dicom"),
        ("/v1/studies", b'--x\r\nContent-Disposition: form-data; name="data"\r\n\r\nheld:film:0.1\r\n--x--\r\n',
         "multipart/form-data; boundary=x"),
    ],
)  # fmt: skip
def test_a_client_that_hangs_up_is_counted_as_such(
    roomy: Gateway, torchserve: StandIn, path: str, body: bytes, type: str
) -> None:
    before = requests_of(roomy, path, outcome="hung_up")
    with roomy.open(body, f"Content-Length: {len(body)}", f"Content-Type: {type}", "X-Request-ID: gone-1", path=path):
        torchserve.wait_until_holding(1)
    roomy.until(lambda: requests_of(roomy, path, outcome="hung_up") == before + 1)
    assert roomy.line(event="request", request_id="gone-1")["status"] == 499
    torchserve.release()
    roomy.until(lambda: roomy.state()["in_flight"] == 0)


def test_a_client_that_hangs_up_while_it_sends_a_film_to_be_shown_is_counted_as_such(roomy: Gateway) -> None:
    before = requests_of(roomy, "/v1/films", outcome="hung_up")
    roomy.open(b"half", "Content-Length: 1000", path="/v1/films").close()
    roomy.until(lambda: requests_of(roomy, "/v1/films", outcome="hung_up") == before + 1)


@pytest.mark.parametrize(
    ("sent", "path"),
    [
        (b"GET / HTTP/1.1\r\nHost : here\r\n\r\n", "none"),
        (b"Doe^Jane\r\n\r\n", "none"),
        (
            b"POST /v1/reports HTTP/1.1\r\nHost: here\r\n{key}Transfer-Encoding: chunked\r\n\r\nDoe^Jane\r\n",
            "/v1/reports",
        ),
    ],
)
def test_what_is_no_http_is_counted_and_logged_under_the_id_that_its_answer_carries(
    roomy: Gateway, sent: bytes, path: str
) -> None:
    before = requests_of(roomy, path, outcome="rejected")
    with roomy.open(b"", raw=sent.replace(b"{key}", f"Authorization: Bearer {roomy.key}\r\n".encode())) as connection:
        head = connection.recv(65536)
    assert head.startswith(b"HTTP/1.1 400")
    (id,) = re.findall(rb"X-Request-ID: ([0-9a-f]{32})", head)
    line = roomy.line(request_id=id.decode())
    assert (line["status"], line["type"]) == (400, "MalformedRequest")
    roomy.until(lambda: requests_of(roomy, path, outcome="rejected") == before + 1)
    assert "Jane" not in roomy.log_text
