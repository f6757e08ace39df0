"""How a command ends: by its fault, by Ctrl-C, by a reader that has gone."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def ends(body: str, *shell: str) -> subprocess.CompletedProcess[str]:
    program = f"from workflows import command_line\nfrom workflows.server import WrongToken\ndef main():\n    {body}\n"
    words = [sys.executable, "-c", f"{program}command_line.run(main)"]
    command = ["bash", "-c", f'"$@" {" ".join(shell)}', "bash", *words] if shell else words
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("return 4", 4, ""),
        ("pass", 0, ""),
        ("raise command_line.Fault('films.csv row 3: no number')", 1, "error: films.csv row 3: no number\n"),
        ("raise WrongToken('the key is refused')", 3, "error: the key is refused\n"),
        ("open('/nowhere/films.csv')", 1, "error: /nowhere/films.csv: No such file or directory\n"),
        ("raise KeyboardInterrupt", 130, ""),
    ],
)
def test_a_command_ends_with_the_code_and_the_line_of_its_fault(body: str, code: int, said: str) -> None:
    ended = ends(body)
    assert (ended.returncode, ended.stderr) == (code, said)


def test_a_reader_that_has_gone_is_no_fault() -> None:
    assert ends("print('x' * 10**6)", "| head -c 1").stderr == ""


def test_a_fault_of_the_program_s_own_is_shown_whole() -> None:
    ended = ends("raise ZeroDivisionError")
    assert ended.returncode == 1
    assert ended.stderr.startswith("Traceback")
