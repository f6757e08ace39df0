"""One command over all command lines."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import cxr

ROOT = Path(__file__).parents[1]
PACKAGES = ("handlers", "workflows", "client", "gateway", "training", "pacs", "cluster")


def call(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, env=environment)


def test_every_command_line_of_the_project_is_a_command() -> None:
    takes_words = re.compile(r"^def main\(arguments: Sequence\[str\]", re.MULTILINE)
    texts = {path: path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    mains = [path.relative_to(ROOT).with_suffix("") for path, text in texts.items() if takes_words.search(text)]
    assert sorted(command.module for command in cxr.COMMANDS.values()) == sorted(".".join(path.parts) for path in mains)
    assert len(mains) == sum("command_line.run(main)" in text for text in texts.values())


@pytest.mark.parametrize("name", cxr.COMMANDS)
def test_a_command_s_help_names_it_as_it_was_called(name: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    module = cxr.COMMANDS[name].module
    main = import_module(module).main
    for call, called in (
        (lambda: cxr.run([name, "--help"]), f"cxr {'' if name == 'stop' else name}"),
        (lambda: main(["--help"]), f"python -m {module.removesuffix('.__main__').removesuffix('.page')} "),
    ):
        with pytest.raises(SystemExit) as ended:
            call()
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: {called}")


def test_the_list_of_commands_needs_no_library() -> None:
    program = "import sys; sys.argv[1:] = ['--help']\ntry: import cxr; cxr.main()\nfinally: print(*sys.modules)"
    shown = call("-c", program)
    assert shown.returncode == 0, shown.stderr
    for name, command in cxr.COMMANDS.items():
        assert f"  {name:13} {command.help}\n" in shown.stdout
    loaded = shown.stdout.splitlines()[-1].split()
    assert not {"torch", "numpy", "pydantic", "httpx", "requests"} & set(loaded)


def test_an_unknown_command_is_answered_with_those_there_are() -> None:
    shown = call("-m", "cxr", "trian")
    assert shown.returncode == 2
    assert shown.stderr.startswith("error: there is no command 'trian'\n\nusage: cxr COMMAND")
    assert "\n  train " in shown.stderr


def test_a_fault_is_one_line_and_its_exit_code(tmp_path: Path) -> None:
    shown = call("-m", "cxr", "keys", "revoke", "nobody", "--secrets", str(tmp_path))
    assert (shown.returncode, shown.stdout) == (1, "")
    assert re.fullmatch(r"error: .*keys\.json has no key of 'nobody'.*\n", shown.stderr)
    shown = call("-m", "cxr", "register", "--server", str(tmp_path))
    assert shown.returncode == 1
    assert shown.stderr.startswith("error: ")
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(
    ("other", "module"),
    [
        ("workflows.client", "client.read"),
        ("workflows.score", "client.score"),
        ("workflows.feedback", "gateway.export_feedback"),
    ],
)
def test_commands_answer_to_their_other_names(other: str, module: str) -> None:
    shown = call("-m", other, "--help")
    assert shown.stdout.startswith(f"usage: python -m {module} "), shown.stderr
