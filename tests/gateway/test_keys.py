"""API keys: hashed at rest, in force and out of force without a restart."""

import json
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.keys import KEYS_FILE, KeyFault, Keys, first_key, make, revoke

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets" / KEYS_FILE


def test_a_key_names_its_holder_and_another_nobody(path: Path) -> None:
    key = make(path, "ward-3")
    keys = Keys(path)
    assert keys.holder(key) == "ward-3"
    for wrong in ("", key[:-1], key + "x", key.upper(), f" {key}", "ward-3", "\udcff", "cxr_" + "A" * 43):
        assert keys.holder(wrong) is None


def test_the_file_holds_no_key_and_is_its_owner_s_alone(path: Path) -> None:
    key = make(path, "ward-3")
    assert key not in path.read_text()
    assert key.removeprefix("cxr_") not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [one.name for one in path.parent.iterdir()] == [KEYS_FILE]


def test_keys_rotate_without_a_restart(path: Path) -> None:
    old = make(path, "ward-3")
    keys = Keys(path)
    assert keys.holder(old) == "ward-3"
    new = make(path, "ward-3-2")
    assert (keys.holder(old), keys.holder(new)) == ("ward-3", "ward-3-2")
    revoke(path, "ward-3")
    assert (keys.holder(old), keys.holder(new)) == (None, "ward-3-2")


def test_a_mounted_secret_is_read_anew_when_the_kubelet_has_renewed_it(tmp_path: Path) -> None:
    """Its file is a link into a folder that is a link, which is replaced by one to a new folder."""
    data = tmp_path / "..data"

    def renew(name: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / KEYS_FILE).write_bytes((tmp_path / "made" / KEYS_FILE).read_bytes())
        (tmp_path / "..data_tmp").symlink_to(name)
        (tmp_path / "..data_tmp").rename(data)

    key = make(tmp_path / "made" / KEYS_FILE, "ward-3")
    renew("..2026_01_01")
    (tmp_path / KEYS_FILE).symlink_to("..data/" + KEYS_FILE)
    keys = Keys(tmp_path / KEYS_FILE)
    assert keys.holder(key) == "ward-3"
    revoke(tmp_path / "made" / KEYS_FILE, "ward-3")
    assert keys.holder(key) == "ward-3"
    renew("..2026_01_02")
    assert keys.holder(key) is None


def test_a_revoked_name_is_not_given_again(path: Path) -> None:
    make(path, "ward-3")
    revoke(path, "ward-3")
    with pytest.raises(KeyFault, match=r"ward-3 has a key already; take another name, such as ward-3-2"):
        make(path, "ward-3")


def test_a_file_that_can_no_longer_be_looked_at_admits_nobody_until_it_can(path: Path) -> None:
    key = make(path, "ward-3")
    keys = Keys(path)
    assert keys.holder(key) == "ward-3"
    path.parent.rename(path.parent.with_name("aside"))
    path.parent.symlink_to(path.parent)  # a loop: to look at the file is an error of another kind than its absence
    assert keys.holder(key) is None
    path.parent.unlink()
    path.parent.with_name("aside").rename(path.parent)
    assert keys.holder(key) == "ward-3"


def test_no_file_admits_nobody_until_there_is_one(path: Path) -> None:
    keys = Keys(path)
    assert keys.holder("cxr_anything") is None
    key = make(path, "late")
    assert keys.holder(key) == "late"
    path.unlink()
    assert keys.holder(key) is None


def test_a_damaged_file_admits_nobody_and_the_log_says_why(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = make(path, "ward-3")
    keys = Keys(path)
    assert keys.holder(key) == "ward-3"
    path.write_text(path.read_text()[:-5])
    assert keys.holder(key) is None
    assert "is not what 'python -m gateway.keys' wrote" in caplog.text


@pytest.mark.parametrize("name", ["", "a b", "../x", "line\nbreak", "x" * 41, "-flag", "ünï"])
def test_a_name_that_would_garble_a_log_is_refused(path: Path, name: str) -> None:
    with pytest.raises(KeyFault, match="is no name for a key"):
        make(path, name)


def test_keys_made_at_once_are_all_kept(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = dict(zip(range(24), pool.map(lambda at: make(path, f"ward-{at}"), range(24)), strict=True))
    keys = Keys(path)
    assert [keys.holder(key) for key in made.values()] == [f"ward-{at}" for at in made]


def test_the_first_key_is_made_once(tmp_path: Path) -> None:
    first = first_key(tmp_path / "secrets")
    assert first == tmp_path / "secrets" / "first.key"
    key = first.read_text().strip()
    assert Keys(tmp_path / "secrets" / KEYS_FILE).holder(key) == "first"
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert first_key(tmp_path / "secrets") == first
    assert first.read_text().strip() == key
    first.unlink()  # its holder has taken it away
    assert first_key(tmp_path / "secrets") is None


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "gateway.keys", *words, "--secrets", str(folder)]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_makes_lists_and_revokes(tmp_path: Path) -> None:
    key = command(tmp_path, "make", "ward-3").stdout.strip()
    assert Keys(tmp_path / KEYS_FILE).holder(key) == "ward-3"
    listed = command(tmp_path, "list").stdout
    assert listed.startswith("ward-3\tmade 20")
    assert listed.endswith("\tgood\n")
    assert key not in listed
    assert command(tmp_path, "revoke", "ward-3").returncode == 0
    assert "\trevoked 20" in command(tmp_path, "list").stdout
    unknown = command(tmp_path, "revoke", "ward-4")
    assert unknown.returncode == 1
    assert "has no key of 'ward-4'" in unknown.stderr
    assert json.loads((tmp_path / KEYS_FILE).read_text())[0]["name"] == "ward-3"
