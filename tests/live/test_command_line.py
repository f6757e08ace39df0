"""The commands against a live TorchServe: what they print, and how they fail."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.arms.torchserve import configure
from client import read as client
from client.demo import curl_line
from gateway import background
from gateway.settings import parse_settings
from handlers.report import parse_answer
from workflows import register
from workflows.server import KEY_FILE, Server, ServerDown, ServerError


def test_a_table_that_a_person_can_read(server: Server, film_paths, capsys: pytest.CaptureFixture[str]) -> None:
    films = [str(film) for film in film_paths[:12]]
    assert client.main(["--server", str(server.folder), *films]) == 0
    printed = capsys.readouterr().out
    assert printed.count("any finding (stage 1)") == 12
    assert "Pleural Thickening" in printed
    assert "skipped" in printed
    assert "not a medical device" in printed
    assert "Trained on synthetic films" in printed


def test_json_is_one_report_a_line(server: Server, film_paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert client.main(["--server", str(server.folder), "--json", str(film_paths[0]), str(film_paths[1])]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.pop("film") for line in lines] == [str(film) for film in film_paths[:2]]
    for line in lines:
        parse_answer(json.dumps(line))


def test_a_refused_film_is_named_with_its_reason(server: Server, tmp_path: Path, capsys) -> None:
    (tmp_path / "letter.txt").write_text("Dear colleague")
    assert client.main(["--server", str(server.folder), str(tmp_path / "letter.txt")]) == client.FILM_REFUSED
    assert "letter.txt: refused, UnreadableImage: not a PNG, JPEG or DICOM file" in capsys.readouterr().out


def test_a_missing_file_is_named(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert client.main(["--server", str(server.folder), "nowhere.png"]) == 1
    assert "nowhere.png" in capsys.readouterr().err


def test_a_token_that_is_no_longer_good_is_renewed(server: Server, film_paths: list[Path]) -> None:
    keys = json.loads((server.folder / KEY_FILE).read_text())
    keys["inference"]["key"] = "expired1"
    (server.folder / KEY_FILE).write_text(json.dumps(keys))
    assert client.main(["--server", str(server.folder), str(film_paths[0])]) == 0
    assert json.loads((server.folder / KEY_FILE).read_text())["inference"]["key"] != "expired1"


def test_a_stranger_s_key_file_is_refused(server: Server, film_paths: list[Path], capsys) -> None:
    path = server.folder / KEY_FILE
    kept = path.read_text()
    try:
        path.write_text(json.dumps({name: {"key": "AAAAAAAA"} for name in ("management", "inference", "API")}))
        assert client.main(["--server", str(server.folder), str(film_paths[0])]) == 3
    finally:
        path.write_text(kept)
    assert "refuses the inference token" in capsys.readouterr().err


def test_the_torchserve_of_another_folder_gets_no_token(
    server: Server, film_paths: list[Path], tmp_path, capsys
) -> None:
    for name in ("config.properties", KEY_FILE):
        shutil.copy(server.folder / name, tmp_path)
    assert client.main(["--server", str(tmp_path), str(film_paths[0])]) == 2
    assert f"(the TorchServe of {server.folder}), not the TorchServe of {tmp_path}: it was sent no token" in (
        capsys.readouterr().err
    )


def test_a_server_that_is_not_up_is_said_so(server: Server, film_paths: list[Path], tmp_path: Path, capsys) -> None:
    configure(tmp_path)
    assert client.main(["--server", str(tmp_path), str(film_paths[0])]) == 2
    assert "make serve" in capsys.readouterr().err
    shutil.copy(server.folder / KEY_FILE, tmp_path)
    assert client.main(["--server", str(tmp_path), str(film_paths[0])]) == 2
    assert "nothing answers at http://127.0.0.1:" in capsys.readouterr().err
    with pytest.raises(ServerDown):
        Server.of_folder(tmp_path).call("GET", f"{Server.of_folder(tmp_path).inference}/ping", "inference")


def test_registering_again_leaves_what_is_served_alone(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    keys, live = (server.folder / KEY_FILE).read_text(), sorted(server.store.iterdir())
    register.main(["--server", str(server.folder)])
    assert json.loads((server.folder / KEY_FILE).read_text())["API"] == json.loads(keys)["API"]
    assert sorted(server.store.iterdir()) == live
    assert capsys.readouterr().out.splitlines()[-1] == f"ready: POST {server.inference}/wfpredict/chest_xray"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_curl_line_of_the_demo_works_as_printed(server: Server, film_paths: list[Path]) -> None:
    line = curl_line(server, film_paths[0])
    answer = subprocess.run(["bash", "-c", line], cwd=server.folder, capture_output=True, check=True).stdout
    assert parse_answer(answer) == client.read(server, film_paths[0].read_bytes())


def test_only_the_store_s_archives_can_be_registered(server: Server) -> None:
    url = f"file://{server.store}/chest_xray.war"
    answer = server.call("POST", f"{server.management}/workflows?url={url}&workflow_name=other", "management")
    assert not answer.is_success
    assert "does not match any allowed URL" in answer.text or answer.status_code == 400


def test_missing_archives_are_named_before_anything_starts(tmp_path: Path) -> None:
    configure(tmp_path)
    with pytest.raises(ServerError, match=r"lacks binary.mar, disease.mar, chest_xray.war: run 'make archive' first"):
        background.start(parse_settings(["--server", str(tmp_path)]), [])
