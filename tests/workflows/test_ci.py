"""Continuous integration installs what tests need where it can, says so where it cannot, and ends as the tests do."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {name: name for name in ("chromium", "curl", "g++", "openssl")} | {
    "dciodvfy": "dicom3tools",
    "dsrdump": "dcmtk",
    "pg_createcluster": "postgresql",
    "ip": "iproute2",
    "Orthanc": "orthanc orthanc-dicomweb",
    "haproxy": "haproxy",
}
"""What the tests need, and the Debian packages that have it."""
TESTED = ["make lint test"]
BASH = shutil.which("bash")


class Machine:
    """A machine with these commands and no others; each says what it was told in ``calls``."""

    def __init__(self, folder: Path) -> None:
        self._bin, self._calls = folder / "bin", folder / "calls"
        self._bin.mkdir()
        self.env = {"PATH": str(self._bin)}
        self._run = folder / "checkout" / ".ci" / "run"
        self._run.parent.mkdir(parents=True)
        shutil.copy(ROOT / ".ci" / "run", self._run)
        (self._bin / "dirname").symlink_to(str(shutil.which("dirname")))
        self.has("make")

    def has(self, command: str, does: str = "", code: int = 0) -> "Machine":
        path = self._bin / command
        path.write_text(f'#!{BASH}\necho "{command} $*" >> {self._calls}\n{does}\nexit {code}\n')
        path.chmod(0o755)
        return self

    def has_all_but(self, *lacking: str) -> "Machine":
        """What the tests need, but for this."""
        for program in PACKAGES:
            if program not in lacking:
                self.has(program)
        return self

    def is_of(self, user: int) -> "Machine":
        path = self._bin / "id"
        path.write_text(f"#!{BASH}\necho {user}\n")
        path.chmod(0o755)
        return self

    def run(self) -> tuple[int, list[str], str]:
        """The exit code, the calls, and what was said on stderr."""
        done = subprocess.run([str(BASH), self._run], env=self.env, capture_output=True, text=True, check=False)
        return done.returncode, self._calls.read_text().splitlines(), done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# ip, Orthanc and haproxy are always there: they are looked for in the real /usr/sbin, too.
@pytest.mark.parametrize("lacking", [tuple(PACKAGES)[:-3], ("chromium",), ("curl", "dciodvfy")], ids=" ".join)
def test_what_the_tests_need_is_installed_where_it_is_not_there(machine: Machine, lacking: tuple[str, ...]) -> None:
    install = [f"apt-get install -qy --no-install-recommends {PACKAGES[program]}" for program in lacking]
    assert machine.is_of(0).has("apt-get").has_all_but(*lacking).run() == (
        0,
        ["apt-get update -q", *install, *TESTED],
        "",
    )


def test_what_is_there_is_taken(machine: Machine) -> None:
    assert machine.is_of(0).has("apt-get").has_all_but().run() == (0, TESTED, "")


def test_a_chromium_that_is_named_is_taken(machine: Machine) -> None:
    machine.env["CHROMIUM"] = "/opt/chromium"
    assert machine.is_of(0).has("apt-get").has_all_but("chromium").run() == (0, TESTED, "")


@pytest.mark.parametrize("where", ["no root", "no apt", "no package"])
def test_what_cannot_be_installed_is_missed_aloud_and_the_tests_run(machine: Machine, where: str) -> None:
    machine.is_of(1000 if where == "no root" else 0).has_all_but("chromium", "openssl")
    if where != "no apt":
        machine.has("apt-get", code=100)
    code, calls, said = machine.run()
    assert code == 0
    assert calls[-1:] == TESTED
    for package in ("chromium", "openssl"):
        assert f"that wants root and apt-get): {package}. Its tests are skipped\n" in said


def test_the_tests_decide(machine: Machine) -> None:
    code, _, _ = machine.is_of(0).has_all_but().has("make", code=2).run()
    assert code == 2
