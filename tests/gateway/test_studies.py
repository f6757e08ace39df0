"""Many films of one study: a line each, and the study summed up."""

import json
from collections.abc import Iterable

import httpx
import pytest

from gateway.body import MAX_FILMS
from gateway.routes.studies import FilmLine, StudyLine
from handlers.findings import FINDINGS
from handlers.report import ModelVersions, Report, Score
from handlers.study import Study, summed_up
from tests.gateway.conftest import Gateway
from tests.gateway.stand_in import PATIENCE, StandIn


def form_of(films: Iterable[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("data", ("film", film)) for film in films]


def post(gateway: Gateway, films: Iterable[bytes], **request) -> httpx.Response:
    headers = {"Authorization": f"Bearer {gateway.key}", **request.pop("headers", {})}
    return httpx.post(f"{gateway.url}/v1/studies", files=form_of(films), headers=headers, timeout=PATIENCE, **request)


def lines_of(response: httpx.Response) -> tuple[dict[int, FilmLine], Study]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    *films, study = [json.loads(line) for line in response.text.splitlines()]
    lines = [FilmLine.model_validate(film) for film in films]
    assert len({line.film for line in lines}) == len(lines)
    return {line.film: line for line in lines}, StudyLine.model_validate(study).study


def test_every_film_has_its_line_and_the_study_names_the_most_suspicious(roomy: Gateway, torchserve: StandIn) -> None:
    films, study = lines_of(post(roomy, [b"film:0.20", b"film:0.90", b"film:0.60"]))
    assert {place: line.report.finding.probability for place, line in films.items() if line.report} == {
        0: 0.20,
        1: 0.90,
        2: 0.60,
    }
    assert (study.films, study.read, study.refused, study.routed) == (3, [0, 1, 2], [], [1, 2])
    assert study.present
    assert study.finding is not None
    assert (study.finding.probability, study.finding.film, study.finding.present) == (0.90, 1, True)
    assert list(study.diseases) == list(FINDINGS)
    assert {(one.probability, one.film, one.present) for one in study.diseases.values()} == {(0.25, 1, False)}


def test_one_bad_film_spoils_nothing(roomy: Gateway, torchserve: StandIn) -> None:
    films, study = lines_of(post(roomy, [b"film:0.20", b"refuse:422:NotARadiograph", b"status:500", b"film:0.40"]))
    assert (study.read, study.refused, study.present) == ([0, 3], [1, 2], False)
    assert study.diseases == {}
    problems = {place: line.problem for place, line in films.items() if line.problem}
    assert {place: (one.status, one.type) for place, one in problems.items()} == {
        1: (422, "urn:cxr:NotARadiograph"),
        2: (503, "urn:cxr:NotServed"),
    }
    assert problems[1].detail == "the cascade's own words"


def test_a_study_without_a_readable_film_is_summed_up_as_nothing(roomy: Gateway, torchserve: StandIn) -> None:
    _, study = lines_of(post(roomy, [b"refuse:400:UnreadableImage"]))
    assert study == Study(films=1, read=[], refused=[0], routed=[], present=False, finding=None, diseases={})


def test_the_first_line_comes_while_another_film_is_still_read(roomy: Gateway, torchserve: StandIn) -> None:
    headers = {"Authorization": f"Bearer {roomy.key}"}
    films = form_of([b"held:film:0.7", b"film:0.3"])
    with httpx.stream("POST", f"{roomy.url}/v1/studies", files=films, headers=headers, timeout=PATIENCE) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines))["film"] == 1
        torchserve.release()
        assert json.loads(next(lines))["film"] == 0
        assert json.loads(next(lines))["study"]["read"] == [0, 1]


def test_at_most_four_films_of_a_study_are_read_at_once(roomy: Gateway, torchserve: StandIn) -> None:
    headers = {"Authorization": f"Bearer {roomy.key}"}
    films = form_of([b"held:film:0.7"] * 6)
    with httpx.stream("POST", f"{roomy.url}/v1/studies", files=films, headers=headers, timeout=PATIENCE) as response:
        torchserve.wait_until_holding(4)
        assert roomy.state()["in_flight"] == 4
        torchserve.release()
        assert sum(1 for _ in response.iter_lines()) == 7
    assert len(torchserve.films) == 6


def test_a_client_that_hangs_up_leaves_none_admitted(narrow: Gateway, torchserve: StandIn) -> None:
    headers = {"Authorization": f"Bearer {narrow.key}"}
    films = form_of([b"held:film:0.7"] * 4)
    with httpx.stream("POST", f"{narrow.url}/v1/studies", files=films, headers=headers, timeout=PATIENCE):
        torchserve.wait_until_holding(2)
    torchserve.release()
    narrow.until(lambda: narrow.state()["in_flight"] == 0 and narrow.state()["waiting"] == 0)
    _, study = lines_of(post(narrow, [b"film:0.2"] * 4))
    assert study.read == [0, 1, 2, 3]


def test_a_study_that_has_more_films_than_may_be_admitted_is_refused_whole(
    narrow: Gateway, torchserve: StandIn
) -> None:
    response = post(narrow, [b"film:0.2"] * 5)
    assert (response.status_code, response.json()["type"]) == (429, "urn:cxr:QueueFull")
    assert int(response.headers["retry-after"]) > 0
    assert torchserve.films == []
    assert lines_of(post(narrow, [b"film:0.2"] * 4))[1].read == [0, 1, 2, 3]


def test_a_film_over_the_limit_is_refused_alone(small: Gateway, torchserve: StandIn) -> None:
    films, study = lines_of(post(small, [b"film:0.2;" + bytes(100_000), b"film:0.3"]))
    assert (study.read, study.refused) == ([1], [0])
    assert films[0].problem is not None
    assert (films[0].problem.status, films[0].problem.type) == (413, "urn:cxr:BodyTooLarge")


def test_a_study_over_the_limit_is_refused_whole(small: Gateway, torchserve: StandIn) -> None:
    response = post(small, [bytes(90_000)] * 5)
    assert (response.status_code, response.json()["type"]) == (413, "urn:cxr:BodyTooLarge")


def test_a_study_of_too_many_films_is_refused(roomy: Gateway, torchserve: StandIn) -> None:
    response = post(roomy, [b"film:0.2"] * (MAX_FILMS + 1))
    assert (response.status_code, response.json()["detail"]) == (413, f"a study has at most {MAX_FILMS} films")
    assert lines_of(post(roomy, [b"film:0.2"] * MAX_FILMS))[1].films == MAX_FILMS


@pytest.mark.parametrize(
    ("body", "kind", "status", "type"),
    [
        (b"film:0.2", "application/octet-stream", 415, "UnsupportedMediaType"),
        (b"--x\r\n", "multipart/form-data; boundary=x", 400, "MalformedForm"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400, "MalformedForm"),
    ],
)
def test_what_is_no_study_is_refused(roomy: Gateway, body: bytes, kind: str, status: int, type: str) -> None:
    headers = {"Authorization": f"Bearer {roomy.key}", "Content-Type": kind}
    response = httpx.post(f"{roomy.url}/v1/studies", content=body, headers=headers)
    assert (response.status_code, response.json()["type"]) == (status, f"urn:cxr:{type}")


def test_a_study_needs_a_key_and_takes_no_options(roomy: Gateway) -> None:
    response = post(roomy, [b"film:0.2"], headers={"Authorization": "Bearer wrong"})
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert post(roomy, [b"film:0.2"], params={"heatmaps": "Mass"}).json()["type"] == "urn:cxr:UnknownParameter"


def test_a_finding_is_present_in_the_study_where_it_is_on_any_film() -> None:
    def report(probability: float, threshold: float) -> Report:
        finding, disease = Score.at(0.9, 0.5), Score.at(probability, threshold)
        models = ModelVersions(binary="1", disease="1")
        return Report(finding=finding, routed=True, diseases=dict.fromkeys(FINDINGS, disease), models=models)

    mass = summed_up(3, {0: report(0.3, 0.2), 2: report(0.4, 0.6)}).diseases["Mass"]
    assert (mass.film, mass.probability, mass.threshold, mass.present) == (2, 0.4, 0.6, True)
