"""Reports as DICOM objects through the gateway and a live TorchServe, and ``python -m pacs.report`` before them."""

import json
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP
from io import BytesIO
from pathlib import Path

import highdicom
import pydicom
import pytest

from client.gateway import Gateway as Client
from client.read import FILM_REFUSED
from handlers.report import Report
from pacs import codes
from pacs import report as command
from tests.gateway.conftest import Gateway
from tests.handlers.dicom_files import written
from tests.pacs.node.films import film, small_pixels
from workflows import command_line

NUMBERS = 900_000
"""From here on no other test has films of these numbers."""


@pytest.fixture(scope="module")
def routes(gateway: Gateway, film_paths: list[Path]) -> dict[bool, bytes]:
    """A DICOM film that is routed, and one that is not."""
    films: dict[bool, bytes] = {}
    for number, path in enumerate(film_paths[:20]):
        data = written(film(small_pixels(path), NUMBERS + number))
        films.setdefault(gateway.read(data).json()["routed"], data)
    return {route: films[route] for route in (True, False)}


@pytest.fixture
def read(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command, on ``film.dcm`` of these bytes, into the folder ``out``."""
    monkeypatch.setenv("CXR_KEY", gateway.key)

    def run(data: bytes, *words: str) -> int:
        (tmp_path / "film.dcm").write_bytes(data)
        told = [str(tmp_path / "film.dcm"), "--out", str(tmp_path / "out"), "--address", gateway.url, *words]
        return command_line.ended(lambda: command.main(told))

    return run


def probabilities(document: pydicom.Dataset) -> dict[str, float]:
    groups = highdicom.sr.ComprehensiveSR.from_dataset(document).content.get_image_measurement_groups()
    return {group.finding_type.meaning: group.get_measurements(name=codes.PROBABILITY)[0].value for group in groups}


def expected(report: Report) -> dict[str, float]:
    scores = {"Finding": report.finding, **(report.diseases if report.routed else {})}
    return {codes.FINDING_CODES[name].meaning: score.probability for name, score in scores.items()}


@pytest.mark.parametrize("routed", [True, False])
def test_the_structured_report_says_what_the_json_says(
    gateway: Gateway, routes: dict[bool, bytes], routed: bool
) -> None:
    report = Report.model_validate_json(gateway.read(routes[routed]).content)
    answer = gateway.read(routes[routed], headers={"Accept": "application/dicom"})
    assert probabilities(pydicom.dcmread(BytesIO(answer.content))) == expected(report)


def test_each_heatmap_is_a_part_of_the_answer(gateway: Gateway, routes: dict[bool, bytes]) -> None:
    answer = gateway.read(routes[True], params={"format": "dicom-sc", "heatmaps": "Effusion,Mass"})
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = BytesParser(policy=HTTP).parsebytes(head + answer.content).get_payload()
    assert [part.get_content_type() for part in parts] == ["application/dicom"] * 2
    captures = [pydicom.dcmread(BytesIO(part.get_payload(decode=True))) for part in parts]
    assert [capture.ImageComments for capture in captures] == ["Pleural effusion", "Mass"]
    assert all(capture.pixel_array.shape[1:] == (640, 3) for capture in captures)


def test_the_command_writes_every_form_and_destroys_nothing(
    read: Callable[..., int], routes: dict[bool, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(routes[True], "--heatmaps", "Effusion,Mass", "--segmentation", "--fhir") == 0
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(made) == [
        f"film.{end}" for end in ("fhir.json", "sc-Effusion.dcm", "sc-Mass.dcm", "seg.dcm", "sr.dcm")
    ]
    kinds = [pydicom.dcmread(BytesIO(made[name])).Modality for name in sorted(made)[1:]]
    assert kinds == ["OT", "OT", "SEG", "SR"]
    assert json.loads(made["film.fhir.json"])["resourceType"] == "Bundle"
    assert capsys.readouterr().out.count(str(tmp_path / "out")) == 5
    assert read(routes[True]) == 1
    assert "film.sr.dcm: is there already, and stays" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == made


def test_a_refused_film_has_no_report_and_a_film_of_another_kind_is_not_sent(
    read: Callable[..., int],
    film_paths: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tomography = film(small_pixels(film_paths[0]), NUMBERS, Modality="CT")
    assert read(written(tomography)) == FILM_REFUSED
    assert "film.dcm: refused, NotARadiograph" in capsys.readouterr().err
    monkeypatch.setattr(Client, "read", lambda *_: pytest.fail("it was sent"))
    assert read(film_paths[0].read_bytes()) == 1
    assert "film.dcm: the film is no DICOM file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_heatmaps_are_named_where_regions_of_them_are_asked_for(read: Callable[..., int], routes) -> None:
    with pytest.raises(SystemExit) as ended:
        read(routes[True], "--segmentation")
    assert ended.value.code == 2
