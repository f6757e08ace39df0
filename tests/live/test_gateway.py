"""Films through the gateway and a live TorchServe: the answers are the workflow's, with statuses."""

import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from handlers.report import Report
from tests.gateway.conftest import Gateway
from tests.gateway.stand_in import content
from tests.html_page import Page
from tests.live.mutants import as_radiograph, saved
from training.evaluation.model_card import model_card_html
from workflows.register import predict
from workflows.server import Server


def test_a_film_gets_the_report_that_the_workflow_gives(gateway: Gateway, server: Server, films: list[bytes]) -> None:
    for film in films[:10]:
        answer = gateway.read(film)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert Report(**content(answer)) == predict(server, film)


def test_a_form_field_is_read_like_a_body(gateway: Gateway, films: list[bytes]) -> None:
    headers = {"Authorization": f"Bearer {gateway.key}"}
    form = gateway.call("POST", "/v1/reports", files={"data": ("film.png", films[0], "image/png")}, headers=headers)
    assert (form.status_code, content(form)) == (200, content(gateway.read(films[0])))


def test_a_real_radiograph_is_read_as_dicom(gateway: Gateway, server: Server) -> None:
    film = Path(str(get_testdata_file("RG1_UNCR.dcm"))).read_bytes()
    answer = gateway.read(film, headers={"Content-Type": "application/dicom"})
    assert content(answer) == predict(server, film).model_dump()


def test_the_model_card_is_that_of_the_served_models_and_loads_nothing(gateway: Gateway, server: Server) -> None:
    answer = gateway.get("/model")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.text == model_card_html(server.store)
    assert "synthetic" in Page(answer.text).text
    assert not {"script", "iframe", "img"} & {tag for tag, _ in Page(answer.text).tags}
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def colour_picture() -> bytes:
    red, blue = (Image.linear_gradient("L").transpose(way) for way in (0, 1))
    return saved(Image.merge("RGB", (red, Image.new("L", (256, 256)), blue)), "PNG")


@pytest.mark.parametrize(
    ("film", "status", "type"),
    [
        (b"", 400, "EmptyRequest"),
        (b"a letter", 400, "UnreadableImage"),
        (saved(Image.linear_gradient("L"), "PNG")[:-100], 400, "TruncatedImage"),
        (saved(Image.new("L", (10_001, 100)), "PNG"), 413, "ImageTooLarge"),
        (as_radiograph("JPGExtended.dcm"), 415, "UnsupportedTransferSyntax"),
        (colour_picture(), 422, "NotARadiograph"),
    ],
    ids=["empty", "text", "cut", "too wide", "12-bit JPEG", "colour"],
)
def test_a_refused_film_gets_a_problem_document(gateway: Gateway, film: bytes, status: int, type: str) -> None:
    answer = gateway.read(film, headers={"X-Request-ID": "film-1"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert (problem["type"], problem["status"], problem["instance"]) == (f"urn:cxr:{type}", status, "film-1")
    assert problem["detail"]


def test_a_picture_s_mode_does_not_change_its_report(gateway: Gateway, films: list[bytes]) -> None:
    """The same film as grey, colour and palette PNG: the greys are the same, and so is the report."""
    grey = Image.open(BytesIO(films[0])).convert("L")
    answers = [gateway.read(saved(grey.convert(mode), "PNG")) for mode in ("L", "RGB", "P", "RGBA")]
    assert [content(answer) for answer in answers] == [content(gateway.read(films[0]))] * 4


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_line_of_the_readme_works(gateway: Gateway, films: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(films[0])
    for sent in ("--data-binary @film.png", "-F data=@film.png"):
        line = f'curl -s -H "Authorization: Bearer {gateway.key}" {sent} {gateway.url}/v1/reports'
        answer = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True).stdout
        assert content(answer) == content(gateway.read(films[0]))
