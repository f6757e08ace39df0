"""The image: each step can be done, and nothing is copied that is not there or not let through.

Where an image builder works, the image is built.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.runtime_packages import runtime_packages
from tests.deploy import containerfile

ROOT = Path(__file__).parents[2]
LOCK = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line)
LOCKED = {canonicalize_name(name): version for name, version in LOCK.items()}
OURS = """
import json, sys, pacs.forms, {}
ours = {{"client", "cluster", "gateway", "handlers", "pacs", "training", "workflows"}}
print(json.dumps([one.__file__ for name, one in sys.modules.items() if name.split(".")[0] in ours and one.__file__]))
"""
"""Imports modules, and prints where those of the project came from: an installed checkout must not stand in for one."""
BUILD_LIMIT = 3000
"""Seconds: PyTorch alone is gigabytes."""


def let_through(name: str) -> bool:
    """Whether ``.dockerignore`` leaves a path in what is sent to the builder: the last rule that fits says so.

    A folder's rule is one for what is in it, and ``*`` stands for no slash.
    """
    kept = True
    for rule in (ROOT / "deploy" / "Containerfile.dockerignore").read_text().split():
        pattern = rule.removeprefix("!").removeprefix("**/").split("/")
        parts = Path(name).parts
        starts = range(len(parts)) if "**/" in rule else [0]
        if any(all(map(fnmatch, parts[start:], pattern)) for start in starts if len(parts) - start >= len(pattern)):
            kept = rule.startswith("!")
    return kept


def test_what_is_copied_is_in_the_project_and_let_through() -> None:
    for source, _ in containerfile.copied():
        path = ROOT / source
        assert path.exists(), source
        code = [path] if path.is_file() else [one for one in path.rglob("*.py") if source != "model_store"]
        assert all(let_through(str(one.relative_to(ROOT))) for one in code), source
    assert let_through("model_store/binary.mar")
    assert let_through("model_store/sha256sums")
    private = ("secrets/keys.json", "records/gateway.sqlite", "model_store/live/binary.mar", ".git/config", ".venv/bin")
    assert not any(map(let_through, private))
    assert not let_through("gateway/__pycache__/app.cpython-311.pyc")


def test_what_it_installs_is_what_a_service_imports_and_all_of_it_is_locked() -> None:
    wanted = [Requirement(one) for one in runtime_packages(ROOT / "pyproject.toml")]
    for one in wanted:
        assert one.specifier.contains(LOCKED[canonicalize_name(one.name)]), one
    names = {one.name for one in wanted}
    assert {"torch", "torchserve", "fastapi", "highdicom"} <= names
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    of_tests = {Requirement(one).name for one in (*optional["dev"], *optional["peers"])}
    assert names & of_tests <= {"ray"}  # which serves in a peer, with other parts of it


def test_its_commands_are_ones_that_a_shell_and_its_packages_have() -> None:
    commands = [*containerfile.words_of("RUN"), (ROOT / "deploy" / "start.sh").read_text()]
    for command in commands:
        assert subprocess.run(["sh", "-n", "-c", command], capture_output=True, check=False).returncode == 0, command
    first = {words[0] for line in containerfile.words_of("RUN") for words in map(shlex.split, line.split("&&"))}
    its_own = {".venv/bin/pip", ".venv/bin/python"}
    debian = {"apt-get", "rm", "python", "useradd", "mkdir", "install", "ln"}
    assert first == its_own | debian


def test_it_is_reproducible_enough_and_ends_as_no_root() -> None:
    (base,) = [words.partition("=")[2] for words in containerfile.words_of("ARG") if words.startswith("BASE=")]
    name, _, tag = base.partition(":")
    python = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["python_version"]
    assert (name, tag) == ("python", f"{python}-slim-bookworm")
    order = [name for name, _ in containerfile.steps()]
    assert order.index("USER") > max(place for place, name in enumerate(order) if name == "RUN")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", containerfile.words_of("USER")[-1])
    assert containerfile.command()[:2] == ["/usr/bin/tini", "--"]
    assert "-y --no-install-recommends tini" in containerfile.words_of("RUN")[0]


def test_its_health_check_asks_whether_films_are_taken() -> None:
    check = json.loads(containerfile.words_of("HEALTHCHECK")[-1].partition("CMD ")[2])
    assert check[:2] == [".venv/bin/python", "-c"]
    assert "http://127.0.0.1:8000/health/ready" in check[2]


def test_it_holds_what_the_gateway_imports(tmp_path: Path) -> None:
    for source, _ in containerfile.copied():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    modules = "gateway.__main__, gateway.keys, workflows.feedback, workflows.roll, workflows.foreground, pacs.node"
    modules += ", cluster.score, cluster.pipeline"
    done = subprocess.run([sys.executable, "-c", OURS.format(modules)], cwd=tmp_path, capture_output=True, text=True)
    found = [Path(file) for file in json.loads(done.stdout)]
    assert found
    assert [file for file in found if not file.is_relative_to(tmp_path)] == []


@pytest.mark.slow
@pytest.mark.timeout(BUILD_LIMIT)
def test_it_builds() -> None:
    builders = [name for name in ("buildah", "podman", "docker") if shutil.which(name)]
    (base,) = [words.partition("=")[2] for words in containerfile.words_of("ARG") if words.startswith("BASE=")]
    for builder in builders:
        pulled = subprocess.run([builder, "pull", base], capture_output=True, check=False)
        if pulled.returncode == 0:
            build = [
                builder,
                "build",
                "-f",
                "deploy/Containerfile",
                "--target",
                "gateway",
                "-t",
                "cxr-cascade:test",
                ".",
            ]
            subprocess.run(build, cwd=ROOT, check=True)
            return
    pytest.skip(
        f"no builder has {base} ({', '.join(builders) or 'none is installed'}): its steps are checked one by one"
    )
