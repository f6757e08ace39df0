"""The commands against a live TorchServe: what they print, and how they fail."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import cxr
from benchmarks.arms.torchserve import configure
from client.demo import SAMPLE, curl_line, demo_films
from client.gateway import KEY_FILE, KEY_VARIABLE, PORT_VARIABLE
from client.read import FILM_REFUSED
from gateway import background
from gateway.settings import parse_settings
from handlers.report import Report, parse_answer
from tests.gateway.conftest import Gateway
from tests.gateway.stand_in import content
from workflows import register
from workflows.register import predict
from workflows.server import KEY_FILE as KEYS
from workflows.server import ForeignServer, Server, ServerDown, ServerError, WrongToken


@pytest.fixture
def user(gateway: Gateway, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with the sample films and the first key, and the gateway at the port that CXR_PORT says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv(PORT_VARIABLE, str(gateway.port))
    for file, text in ((KEY_FILE, gateway.key), (Path("letter.txt"), "Dear colleague")):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    SAMPLE.parent.mkdir()
    SAMPLE.symlink_to(sample)
    return tmp_path


def test_the_demo_reads_three_films_and_says_how_to_go_on(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cxr.run(["demo"]) == 0
    printed = capsys.readouterr().out
    assert [printed.count(line) for line in ("synthetic film drawn with: ", "real radiograph (DICOM, CR")] == [2, 1]
    assert printed.count("any finding (stage 1)") == printed.count("Trained on synthetic films") == 3
    assert printed.endswith(f"Try next:\n\n  {curl_line(demo_films()[0][1])}\n\n'make stop' ends it.\n")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_curl_line_of_the_demo_works_as_printed(user: Path, server: Server) -> None:
    film = demo_films()[0][1]
    answer = subprocess.run(["bash", "-c", curl_line(film)], capture_output=True, check=True).stdout
    assert parse_answer(json.dumps(content(answer))) == predict(server, film.read_bytes())


def test_json_is_a_line_a_film_with_the_report_that_the_workflow_gives(user: Path, server: Server, film_paths, capsys):
    films = [str(film) for film in film_paths[:12]]
    assert cxr.run(["read", "--json", *films]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.pop("film") for line in lines] == films
    reports = [parse_answer(json.dumps(content(json.dumps(line)))) for line in lines]
    assert reports == [predict(server, film.read_bytes()) for film in film_paths[:12]]


def test_a_refused_film_is_named_with_its_reason(user: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cxr.run(["read", "letter.txt"]) == FILM_REFUSED
    assert "letter.txt: refused, UnreadableImage: not a PNG, JPEG or DICOM file" in capsys.readouterr().out


def test_a_torchserve_token_that_is_no_longer_good_is_renewed(server: Server, films: list[bytes]) -> None:
    keys = json.loads((server.folder / KEYS).read_text())
    keys["inference"]["key"] = "expired1"
    (server.folder / KEYS).write_text(json.dumps(keys))
    assert isinstance(predict(server, films[0]), Report)
    assert json.loads((server.folder / KEYS).read_text())["inference"]["key"] != "expired1"


def test_a_stranger_s_key_file_is_refused(server: Server, films: list[bytes]) -> None:
    path = server.folder / KEYS
    kept = path.read_text()
    try:
        path.write_text(json.dumps({name: {"key": "AAAAAAAA"} for name in ("management", "inference", "API")}))
        with pytest.raises(WrongToken, match="refuses the inference token"):
            predict(server, films[0])
    finally:
        path.write_text(kept)


def test_the_torchserve_of_another_folder_gets_no_token(server: Server, films: list[bytes], tmp_path: Path) -> None:
    for name in ("config.properties", KEYS):
        shutil.copy(server.folder / name, tmp_path)
    said = f"(the TorchServe of {server.folder}), not the TorchServe of {tmp_path}: it was sent no token"
    with pytest.raises(ForeignServer, match=re.escape(said)):
        predict(Server.of_folder(tmp_path), films[0])


def test_a_torchserve_that_is_not_up_is_said_so(server: Server, films: list[bytes], tmp_path: Path) -> None:
    configure(tmp_path)
    with pytest.raises(ServerDown, match="make serve"):
        predict(Server.of_folder(tmp_path), films[0])
    shutil.copy(server.folder / KEYS, tmp_path)
    with pytest.raises(ServerDown, match=r"nothing answers at http://127\.0\.0\.1:"):
        predict(Server.of_folder(tmp_path), films[0])


def test_registering_again_leaves_what_is_served_alone(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    keys, live = (server.folder / KEYS).read_text(), sorted(server.store.iterdir())
    register.main(["--server", str(server.folder)])
    assert json.loads((server.folder / KEYS).read_text())["API"] == json.loads(keys)["API"]
    assert sorted(server.store.iterdir()) == live
    assert capsys.readouterr().out.splitlines()[-1] == f"ready: POST {server.inference}/wfpredict/chest_xray"


def test_only_the_store_s_archives_can_be_registered(server: Server) -> None:
    url = f"file://{server.store}/chest_xray.war"
    answer = server.call("POST", f"{server.management}/workflows?url={url}&workflow_name=other", "management")
    assert not answer.is_success
    assert "does not match any allowed URL" in answer.text or answer.status_code == 400


def test_missing_archives_are_named_before_anything_starts(tmp_path: Path) -> None:
    configure(tmp_path)
    with pytest.raises(ServerError, match=r"lacks binary.mar, disease.mar, chest_xray.war: run 'make archive' first"):
        background.start(parse_settings(["--server", str(tmp_path)]), [])
