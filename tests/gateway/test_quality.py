"""What becomes of a film that the models cannot read, by the gateway's policy."""

import subprocess
import sys

import pytest

from gateway.settings import parse_settings
from handlers.report import Report
from tests.gateway.conftest import ROOT, Gateway
from tests.gateway.stand_in import StandIn, quality_of

METRIC = "cxr_gateway_quality_total"


@pytest.fixture(scope="module")
def refusing(start_gateway) -> Gateway:
    return start_gateway(quality="refuse")


def test_unless_told_a_film_is_read_and_its_report_says_what_is_wrong(roomy: Gateway, torchserve: StandIn) -> None:
    answer = roomy.read(b"quality:unlike,turned")
    assert answer.status_code == 200
    assert Report.model_validate_json(answer.content).quality == quality_of("unlike,turned")
    assert answer.json()["quality"]["warnings"] == ["it is unlike", "it is turned"]
    assert "corrected" not in answer.json()["quality"]
    assert torchserve.films == [b"quality:unlike,turned"]


def test_an_archive_that_says_nothing_of_it_leaves_it_out(refusing: Gateway, torchserve: StandIn) -> None:
    answer = refusing.read(b"film:0.75")
    assert answer.status_code == 200
    assert "quality" not in answer.json()
    assert "call" not in answer.json()["finding"]


@pytest.mark.parametrize("sign", ["unlike", "turned", "inverted"])
def test_a_gateway_that_refuses_says_why(refusing: Gateway, torchserve: StandIn, sign: str) -> None:
    answer = refusing.read(f"quality:{sign},mirrored".encode(), headers={"X-Request-ID": "film-9"})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json() == {
        "type": "urn:cxr:NotAChestFilm",
        "title": "Not a chest film",
        "status": 422,
        "detail": f"the models cannot read this film: it is {sign}; it is mirrored",
        "instance": "film-9",
    }
    assert refusing.metric('cxr_gateway_refused_total{path="/v1/reports",type="NotAChestFilm"}') >= 1
    assert refusing.line(request_id="film-9")["type"] == "NotAChestFilm"


def test_a_mirrored_film_alone_is_not_refused(refusing: Gateway, torchserve: StandIn) -> None:
    """A heart on the right is no fault of the film's."""
    answer = refusing.read(b"quality:mirrored")
    assert (answer.status_code, answer.json()["quality"]["warnings"]) == (200, ["it is mirrored"])


def test_a_refused_film_of_a_study_has_its_problem_and_the_others_their_reports(
    refusing: Gateway, torchserve: StandIn
) -> None:
    films = [("data", film) for film in (b"quality:unlike", b"film:0.75")]
    answer = refusing.call("POST", "/v1/studies", files=films, headers={"Authorization": f"Bearer {refusing.key}"})
    lines = sorted(answer.text.splitlines()[:2])
    assert '"film":0' in lines[0]
    assert "urn:cxr:NotAChestFilm" in lines[0]
    assert '"report"' in lines[1]


def test_a_gateway_that_corrects_asks_the_models_to(start_gateway, torchserve: StandIn) -> None:
    correcting = start_gateway(quality="correct")
    correcting.read(b"a film", params={"heatmaps": "Mass"})
    (form,) = torchserve.films
    assert b'name="heatmaps"\r\n\r\nMass\r\n' in form
    assert b'name="quality"\r\n\r\ncorrect\r\n' in form
    assert b"a film" in form


def test_what_films_are_like_is_counted_by_sign_once_a_film(roomy: Gateway, torchserve: StandIn) -> None:
    signs = ("unlike", "turned", "mirrored", "inverted", "corrected", "none")
    before = {sign: roomy.metric(f'{METRIC}{{sign="{sign}"}}') for sign in signs}
    for film in (b"quality:turned,mirrored", b"quality:corrected", b"quality:", b"film:0.75"):
        assert roomy.read(film).status_code == 200
    roomy.read(b"quality:unlike", params={"heatmaps": "Mass"})  # of a film that was read before
    counted = {sign: roomy.metric(f'{METRIC}{{sign="{sign}"}}') - before[sign] for sign in signs}
    assert counted == {"unlike": 0, "turned": 1, "mirrored": 1, "inverted": 0, "corrected": 1, "none": 1}


def test_a_policy_that_is_none_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = subprocess.run(
        [sys.executable, "-m", "gateway", "--quality", "ignore"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert asked.returncode != 0
    assert "quality" in asked.stderr
    assert "warn" in asked.stderr
    monkeypatch.setenv("CXR_QUALITY", "refuse")
    assert parse_settings([]).quality == "refuse"
    monkeypatch.delenv("CXR_QUALITY")
    assert parse_settings([]).quality == "warn"
