"""The served workflow's name, shared by processes through one file."""

from pathlib import Path

import pytest

from workflows.active import Active


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "active"


def test_without_a_file_it_is_the_workflow_of_make_archive(path: Path) -> None:
    assert Active(path).name() == "chest_xray"
    assert Active(path).before() is None


def test_a_switch_reaches_those_who_read_already_and_remembers_the_one_before(path: Path) -> None:
    gateway = Active(path)
    assert gateway.name() == "chest_xray"
    Active(path).set("chest_xray_1a2b3c4d")
    assert (gateway.name(), gateway.before()) == ("chest_xray_1a2b3c4d", "chest_xray")
    Active(path).set("chest_xray_1a2b3c4d")
    assert gateway.before() == "chest_xray"
    Active(path).set("chest_xray")
    assert (gateway.name(), gateway.before()) == ("chest_xray", "chest_xray_1a2b3c4d")
    path.unlink()
    assert gateway.name() == "chest_xray"


@pytest.mark.parametrize("name", ["", "../secrets", "a/b", "a b", "a?x=1", "a%2e", "x" * 65])
def test_a_name_that_is_more_than_a_name_is_refused(path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no workflow's name"):
        Active(path).set(name)
    assert not path.exists()


def test_a_file_that_holds_no_name_changes_nothing_and_is_said(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    active = Active(path)
    active.set("chest_xray_1a2b3c4d")
    assert active.name() == "chest_xray_1a2b3c4d"
    path.write_text("../../etc/passwd\n")
    assert active.name() == "chest_xray_1a2b3c4d"
    assert "holds no workflow's name" in caplog.text
