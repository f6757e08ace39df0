"""Archives are served only as 'make archive' wrote them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from workflows.server import Server, ServerError
from workflows.store import archives_of, check_archives
from workflows.sums import SUMS_FILE, place, read_sums, write_sums

NAMES = ("binary.mar", "disease.mar", "chest_xray.war")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Three archives in a store, placed as 'make archive' places them."""
    made = tmp_path / "made"
    made.mkdir()
    for name in NAMES:
        (made / name).write_bytes(name.encode() * 1000)
    store = tmp_path / "model_store"
    store.mkdir()
    place([made / name for name in NAMES], store)
    return Server(tmp_path, "", "", "", store)


def test_the_sums_are_those_that_sha256sum_checks(server: Server) -> None:
    assert set(read_sums(server.store)) == set(NAMES)
    assert check_archives(server.store) == read_sums(server.store)
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--strict", "-c", SUMS_FILE], cwd=server.store, check=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at", [0, 5000, -1])
def test_one_byte_changed_is_refused_by_the_archive_s_name(server: Server, name: str, at: int) -> None:
    content = bytearray((server.store / name).read_bytes())
    content[at] ^= 1
    (server.store / name).write_bytes(content)
    with pytest.raises(ServerError, match=rf"{name} is not the file that 'make archive' wrote: .* Run 'make archive'"):
        check_archives(server.store)


def test_an_archive_without_a_sum_is_refused(server: Server) -> None:
    (server.store / SUMS_FILE).unlink()
    with pytest.raises(ServerError, match=r"sha256sums has no line for binary.mar: run 'make archive' again"):
        check_archives(server.store)


def test_missing_archives_are_named(server: Server) -> None:
    (server.store / "disease.mar").unlink()
    with pytest.raises(ServerError, match=r"lacks disease.mar: run 'make archive' first"):
        check_archives(server.store)


def test_new_sums_keep_those_of_a_pair_that_was_rolled_in(server: Server) -> None:
    rolled = archives_of("chest_xray_1a2b3c4d")
    assert rolled == ("binary_1a2b3c4d.mar", "disease_1a2b3c4d.mar", "chest_xray_1a2b3c4d.war")
    for name in rolled:
        (server.store / name).touch()
    write_sums(server.store, dict.fromkeys(rolled, "0" * 64))
    write_sums(server.store, {"binary.mar": "1" * 64})
    assert set(read_sums(server.store)) == {*NAMES, *rolled}
    assert read_sums(server.store)["binary.mar"] == "1" * 64
    (server.store / rolled[0]).unlink()
    write_sums(server.store, {})
    assert set(read_sums(server.store)) == {*NAMES, *rolled[1:]}
