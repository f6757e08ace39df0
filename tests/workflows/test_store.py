"""What 'make archive' packs is served from the next start on, whole and as it was packed, and not before."""

import logging
import os
from pathlib import Path

import pytest

from workflows.active import Active
from workflows.server import Server, ServerError
from workflows.store import CARD, archives_of, check_served, deploy, is_staged
from workflows.sums import place, read_sums

NAMES = ("binary.mar", "disease.mar", "chest_xray.war")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Nothing is packed."""
    live = tmp_path / "model_store" / "live"
    live.mkdir(parents=True)
    return Server(tmp_path, "", "", "", live)


def pack(server: Server, **contents: str) -> None:
    """A pair and its card, as 'make archive' places them."""
    made = server.folder / "made"
    made.mkdir(exist_ok=True)
    for name in (*NAMES, CARD):
        (made / name).write_text(contents.get(name.partition(".")[0], f"{name} of the first pair"))
    place([made / name for name in (*NAMES, CARD)], server.store.parent)


def live(server: Server) -> dict[str, str]:
    return {path.name: path.read_text() for path in server.store.iterdir() if path.name != "sha256sums"}


FIRST = {name: f"{name} of the first pair" for name in NAMES} | {"chest_xray.html": f"{CARD} of the first pair"}


def test_what_is_packed_is_live_after_a_deployment_with_its_card_and_sums(server: Server) -> None:
    pack(server)
    assert live(server) == {}
    assert is_staged(server)
    deploy(server)
    assert live(server) == FIRST
    assert set(read_sums(server.store)) == set(FIRST)
    assert not is_staged(server)
    check_served(server)


def test_what_is_live_already_is_not_copied_again(server: Server) -> None:
    pack(server)
    deploy(server)
    before = {name: (server.store / name).stat().st_ino for name in NAMES}
    pack(server, disease="another model")
    deploy(server)
    after = {name: (server.store / name).stat().st_ino for name in NAMES}
    assert {name for name in NAMES if before[name] != after[name]} == {"disease.mar"}
    assert live(server) == {**FIRST, "disease.mar": "another model"}
    deploy(server)
    assert after == {name: (server.store / name).stat().st_ino for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_pair_is_refused_and_the_old_one_stays(server: Server, name: str) -> None:
    pack(server)
    deploy(server)
    pack(server, binary="other", disease="other", chest_xray="other")
    (server.store.parent / name).write_text("damaged")
    for step in (check_served, deploy):
        with pytest.raises(ServerError, match=f"model_store/{name} is not the file that 'make archive' wrote"):
            step(server)
    assert live(server) == FIRST


@pytest.mark.parametrize(("gone", "said"), [("disease.mar", "lacks disease.mar"), ("sha256sums", "has no line for")])
def test_half_a_store_is_refused_and_the_old_one_stays(server: Server, gone: str, said: str) -> None:
    pack(server)
    deploy(server)
    pack(server, binary="other")
    (server.store.parent / gone).unlink()
    with pytest.raises(ServerError, match=said):
        deploy(server)
    assert live(server) == FIRST


def test_a_deployment_that_cannot_copy_leaves_the_old_pair_whole(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(server)
    deploy(server)
    pack(server, binary="other", disease="other")
    copied: list[str] = []

    def copy(source: Path, target: Path) -> None:
        copied.append(source.name)
        if len(copied) == 2:
            raise OSError(28, "No space left on device", str(target))
        target.write_bytes(source.read_bytes())

    monkeypatch.setattr("workflows.store.shutil.copy", copy)
    with pytest.raises(OSError, match="no space left for"):
        deploy(server)
    assert live(server) == FIRST
    check_sums = read_sums(server.store)
    monkeypatch.undo()
    deploy(server)
    assert check_sums != read_sums(server.store)
    assert live(server) == {**FIRST, "binary.mar": "other", "disease.mar": "other"}


def test_a_pair_that_was_rolled_in_stays_and_that_is_said(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    pack(server)
    deploy(server)
    Active.of(server).set("chest_xray_1a2b3c4d")
    pack(server, binary="other")
    with caplog.at_level(logging.WARNING):
        deploy(server)
    assert "chest_xray_1a2b3c4d stays, as it was rolled in" in caplog.text
    assert live(server)["binary.mar"] == FIRST["binary.mar"]
    with pytest.raises(ServerError, match=r"lacks binary_1a2b3c4d.mar"):
        check_served(server)  # what would be served


def test_a_store_without_a_card_leaves_no_other_pair_s_card(server: Server) -> None:
    pack(server)
    deploy(server)
    made = server.folder / "made"
    for name in NAMES:
        (made / name).write_text("made elsewhere")
    (server.store.parent / CARD).unlink()
    place([made / name for name in NAMES], server.store.parent)
    deploy(server)
    assert set(live(server)) == set(NAMES)


def test_with_nothing_packed_what_is_live_is_served(server: Server) -> None:
    pack(server)
    deploy(server)
    for name in (*NAMES, "sha256sums", CARD):
        os.remove(server.store.parent / name)
    assert not is_staged(server)
    check_served(server)
    (server.store / archives_of("chest_xray")[0]).unlink()
    with pytest.raises(ServerError, match=r"live lacks binary.mar: run 'make archive' first"):
        check_served(server)
