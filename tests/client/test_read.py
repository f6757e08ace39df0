"""``client.read``: what it prints of films that the gateway reads, and how it ends."""

import json
from pathlib import Path

import pytest

from benchmarks.arms.reserved_ports import free_ports
from client import read as command
from client.gateway import Gateway
from client.report_table import print_answer
from handlers.report import Correction, Orientation, Quality, Score, Sign, parse_answer
from tests.client.gateway_stub import KEY, GatewayStub, Say, report_of
from workflows import command_line


@pytest.fixture
def films(tmp_path: Path) -> list[str]:
    """One that is routed, and one that is not."""
    for name, film in (("ill.png", "0.7"), ("well.png", "0.4")):
        (tmp_path / name).write_text(film)
    return [str(tmp_path / "ill.png"), str(tmp_path / "well.png")]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_KEY", KEY)
    monkeypatch.setattr(Gateway, "wait", lambda *_: None)


def read(service: GatewayStub, *words: str) -> int:
    return command_line.ended(lambda: command.main([*words, "--address", service.address]))


def test_tables_by_default(service: GatewayStub, films, capsys) -> None:
    assert read(service, *films) == 0
    printed = capsys.readouterr().out
    assert printed.count("any finding (stage 1)") == 2
    assert "Pleural Thickening" in printed
    assert "below the gate" in printed
    assert "not a medical device" in printed
    assert "Trained on synthetic films" in printed


def test_what_is_the_matter_with_a_film_is_said_under_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    quality = Quality(
        in_distribution=0.5,
        orientation=Orientation(value="upright", score=0.9),
        mirrored=Sign(value=True, score=0.9),
        inverted=Sign(value=False, score=0.1),
        unlike=False,
        readable=True,
        warnings=["left and right look exchanged"],
        corrected=Correction(turned="90", inverted=True),
    )
    finding = Score.at(0.25, 0.5).model_copy(update={"call": "uncertain"})
    print_answer("film.png", report_of(0.25).model_copy(update={"finding": finding, "quality": quality}))
    printed = capsys.readouterr().out
    assert "read turned back from 90 degrees and inverted back\nwarning: left and right look exchanged\n" in printed
    assert "│ any finding (stage 1) │ 0.250 ██       │     0.500 │ no      │ uncertain │\n" in printed
    routed = report_of(0.75).model_copy(update={"finding": Score.at(0.75, 0.5).model_copy(update={"call": "present"})})
    print_answer("film.png", routed)
    tables = [line for line in (printed + capsys.readouterr().out).splitlines() if line[:1] in "┏┃┡│├└"]
    assert max(map(len, tables)) <= 80  # a terminal's usual width
    print_answer("film.png", report_of(0.25))
    printed = capsys.readouterr().out
    assert "warning" not in printed
    assert "call" not in printed


def test_json_is_one_report_a_line(service: GatewayStub, films, capsys) -> None:
    assert read(service, "--json", *films) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.pop("film") for line in lines] == films
    assert [parse_answer(json.dumps(line)) for line in lines] == [report_of(0.7), report_of(0.4)]


def test_a_refused_film_is_named_with_its_reason_and_the_others_are_read(
    service: GatewayStub, films, tmp_path: Path, capsys
) -> None:
    (tmp_path / "letter.txt").write_text("refuse 400 UnreadableImage")
    assert read(service, films[0], str(tmp_path / "letter.txt"), films[1]) == command.FILM_REFUSED
    printed = capsys.readouterr().out
    assert "letter.txt: refused, UnreadableImage: why" in printed
    assert printed.count("any finding (stage 1)") == 2


def test_a_film_without_a_report_is_no_refused_film(service: GatewayStub, films, capsys) -> None:
    service.script[b"0.7"] = [Say(503, "InternalError")] * 100
    assert read(service, *films) == 1
    assert f"error: {films[0]}: no report, InternalError: why" in capsys.readouterr().err


def test_a_service_that_is_full_for_a_moment_is_waited_for(service: GatewayStub, films) -> None:
    service.script[b"0.7"] = [Say(429, "QueueFull", "1"), Say(503, "NotReady", "5")]
    assert read(service, *films) == 0


def test_faults_of_the_call_end_with_their_exit_codes(
    service: GatewayStub, films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    assert read(service, "nowhere.png") == 1
    assert "error: nowhere.png: No such file or directory" in capsys.readouterr().err
    assert read(service, str(tmp_path)) == 1
    (nobody,) = free_ports(1)
    assert command_line.ended(lambda: command.main([*films, "--address", f"http://127.0.0.1:{nobody}"])) == 2
    assert "make serve" in capsys.readouterr().err
    monkeypatch.setenv("CXR_KEY", "revoked")
    assert read(service, *films) == 3
    assert "refuses the key" in capsys.readouterr().err
    (tmp_path / "good.key").write_text(f"{KEY}\n")
    assert read(service, "--key-file", str(tmp_path / "good.key"), *films) == 0
    monkeypatch.delenv("CXR_KEY")
    monkeypatch.chdir(tmp_path)
    assert read(service, *films) == 1
    assert "secrets/first.key is not there ('make serve' makes a first one)" in capsys.readouterr().err


def test_the_port_follows_the_gateway_s_own_setting(service: GatewayStub, films, monkeypatch) -> None:
    monkeypatch.setenv("CXR_PORT", service.address.rpartition(":")[2])
    assert command.main(films) == 0
