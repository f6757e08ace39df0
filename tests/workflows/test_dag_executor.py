"""The class that runs the workflow's nodes is compiled into the server's folder, by the Java that it runs on."""

from pathlib import Path

import pytest

from workflows import dag_executor
from workflows.server import ServerError


def classes(folder: Path) -> dict[str, int]:
    found = (folder / dag_executor.CLASSES).glob("*.class")
    return {path.name: path.stat().st_mtime_ns for path in found}


def test_the_class_is_compiled_once_and_again_for_another_source(tmp_path: Path, monkeypatch) -> None:
    dag_executor.install(tmp_path)
    first = classes(tmp_path)
    assert "DagExecutor.class" in first
    dag_executor.install(tmp_path)
    assert classes(tmp_path) == first

    source = tmp_path / "DagExecutor.groovy"
    source.write_text(dag_executor.SOURCE.read_text() + "// changed\n")
    monkeypatch.setattr(dag_executor, "SOURCE", source)
    dag_executor.install(tmp_path)
    second = classes(tmp_path)
    assert second.keys() == first.keys()
    assert second["DagExecutor.class"] > first["DagExecutor.class"]
    assert {path.name for path in tmp_path.iterdir()} == {"org", "DagExecutor.groovy"}


def test_a_source_that_does_not_compile_is_named_and_the_old_class_stays(tmp_path: Path, monkeypatch) -> None:
    dag_executor.install(tmp_path)
    before = classes(tmp_path)
    source = tmp_path / "DagExecutor.groovy"
    source.write_text("class DagExecutor {")
    monkeypatch.setattr(dag_executor, "SOURCE", source)
    with pytest.raises(ServerError, match=r"DagExecutor\.groovy does not compile: (?s:.*)Unexpected input"):
        dag_executor.install(tmp_path)
    assert classes(tmp_path) == before


def test_a_java_home_without_a_java_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "no-java"))
    with pytest.raises(ServerError, match="no-java/bin/java does not start"):
        dag_executor.install(tmp_path)
