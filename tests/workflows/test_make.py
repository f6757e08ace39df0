"""make: every step is listed, and a step whose inputs have not changed is not run again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STEPS = [
    "setup",
    "data",
    "train",
    "evaluate",
    "report",
    "archive",
    "serve",
    "predict",
    "demo",
    "stop",
    "test",
    "lint",
    "clean",
    "clean-runs",
]
MADE = [
    ".venv/installed",
    "data/sample/SYNTHETIC.txt",
    "runs/sample-demo/binary/finished",
    "runs/sample-demo/disease/finished",
    "runs/sample-demo/evaluation.json",
    "runs/sample-demo/report/report.html",
    "model_store/packed",
]
"""What the steps leave behind, in their order."""


def make(folder: Path, *arguments: str) -> str:
    """What make would run."""
    return subprocess.run(["make", "-n", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def copied(folder: Path) -> Path:
    """The project without what is made in it."""

    def ignored(of: str, names: list[str]) -> list[str]:
        here = {"data", "cache", "runs", "logs", "model_store", "secrets"} if Path(of) == ROOT else {"__pycache__"}
        return [name for name in names if name.startswith(".") or name in here]

    return Path(shutil.copytree(ROOT, folder / "project", ignore=ignored))


@pytest.fixture(autouse=True)
def by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests may run under make themselves, whose flags are not theirs."""
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The project after a whole run, a second between each step and the next."""
    folder = copied(tmp_path)
    for path in folder.rglob("*"):
        os.utime(path, (1000, 1000))
    for age, name in enumerate(MADE):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("runs/sample-demo float32\n")
        os.utime(path, (2000 + age, 2000 + age))
    return folder


def test_help_lists_every_step() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(STEPS) <= {line.split()[0] for line in listed.splitlines() if line.startswith("  ")}


def test_nothing_is_made_twice(made: Path) -> None:
    assert "python" not in make(made, "setup", "data", "train", "evaluate", "report", "archive")


@pytest.mark.parametrize(
    ("changed", "run", "left"),
    [
        ("training/configs/demo.yaml", ["training.train", "training.evaluate", "training.archive"], ["sample_data"]),
        ("handlers/decoding/image.py", ["training.evaluate", "training.archive"], ["training.train", "sample_data"]),
        ("handlers/report.py", ["training.archive"], ["training.train", "training.evaluate"]),
        ("training/fit/optimise.py", [], ["training.train", "training.evaluate", "training.archive"]),
        ("training/evaluation/thresholds.py", ["training.evaluate", "training.archive"], ["training.train"]),
        ("workflows/chest_xray.yaml", ["training.archive"], ["training.train", "training.evaluate"]),
        ("training/synthetic/findings.py", [], ["sample_data", "training.train", "training.archive"]),
        ("requirements.lock", ["pip install"], ["training.train"]),
    ],
)
def test_a_change_runs_what_depends_on_it(made: Path, changed: str, run: list[str], left: list[str]) -> None:
    os.utime(made / changed, (3000, 3000))
    would = make(made, "archive")
    assert all(step in would for step in run)
    assert not any(step in would for step in left)


def test_nothing_replaces_a_run_but_the_word_that_says_so(made: Path) -> None:
    for path in made.rglob("*.*"):
        os.utime(path, (3000, 3000))
    for goals in (["archive"], ["report"], ["archive", "FORCE=1"], ["demo"]):
        assert "--force" not in make(made, *goals)
    assert make(made, "train", "FORCE=1").count("--force") == 2


def test_a_run_of_another_folder_of_the_same_name_is_looked_at(made: Path) -> None:
    (made / "runs" / "sample-demo" / "disease" / "checkpoint").mkdir()
    (made / "runs" / "sample-demo" / "disease" / "checkpoint" / "training.yaml").write_text("folder: data/sample\n")
    assert "training.train" not in make(made, "train")
    shutil.copytree(made / "data" / "sample", made / "other" / "sample")
    (made / "other" / "sample" / "Data_Entry_2017.csv").touch()
    os.utime(made / "other" / "sample" / "Data_Entry_2017.csv", (1500, 1500))
    assert make(made, "train", "DATA=other/sample").count("training.train") == 2


@pytest.mark.parametrize(
    "table",
    [
        "Data_Entry_2017_v2020.csv",
        "valid.csv",
        "mimic-cxr-2.0.0-chexpert.csv.gz",
        "annotations/image_labels_test.csv",
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
        "anything.csv",
    ],
)
def test_a_newer_table_of_any_layout_is_looked_at(made: Path, table: str) -> None:
    path, run = made / "mine" / table, made / "runs" / "mine-demo"
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (1500, 1500))
    shutil.copytree(made / "runs" / "sample-demo", run)
    for stage in ("binary", "disease"):
        (run / stage / "checkpoint").mkdir()
        (run / stage / "checkpoint" / "training.yaml").write_text("folder: mine\n")
        os.utime(run / stage / "finished", (2000, 2000))
    assert "training.train" not in make(made, "train", "DATA=mine")
    os.utime(path, (3000, 3000))
    assert make(made, "train", "DATA=mine").count("training.train") == 2


TINY = """
data: {validation: 0.2}
model: {sizes: {hidden: 32, layers: 1, heads: 2, mlp: 32, patch: 8}, image_size: 32}
optim: {epochs: 1, batch_size: 16}
"""


class Project:
    """A copy of the project with this test's Python, a tiny configuration, and drawn films as the user's own."""

    def __init__(self, folder: Path, films: Path) -> None:
        self.folder = folder
        shutil.copytree(films, folder / "films")
        (folder / "tiny.yaml").write_text(TINY)
        self.python(f'exec {sys.executable} "$@"')
        (folder / ".venv" / "installed").touch()

    def python(self, does: str) -> None:
        """What ``.venv/bin/python`` does."""
        path = self.folder / ".venv" / "bin" / "python"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["make", *words, "DATA=films", "CONFIG=tiny.yaml"]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True)

    def models(self) -> dict[str, bytes]:
        """Of the run: its checkpoints' files, and what says that they are finished."""
        run = self.folder / "runs" / "films-tiny"
        paths = [*run.glob("*/checkpoint/*"), *run.glob("*/finished")]
        return {str(path.relative_to(run)): path.read_bytes() for path in paths}


@pytest.fixture
def project(sample: Path, tmp_path: Path) -> Project:
    return Project(copied(tmp_path), sample)


def test_a_trained_run_outlives_new_code_a_changed_configuration_and_make_clean(project: Project) -> None:
    trained = project.make("train")
    assert trained.returncode == 0, trained.stderr
    models = project.models()
    assert {
        f"{stage}/{file}" for stage in ("binary", "disease") for file in ("finished", "checkpoint/config.json")
    } <= set(models)

    code = project.folder / "training" / "fit" / "optimise.py"
    code.write_text(code.read_text() + "\n# another version\n")
    again = project.make("train")
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr == (
        "warning: the trainer's code is newer than runs/films-tiny, which stays; to make it anew: "
        "make train FORCE=1 DATA=films CONFIG=tiny.yaml\n"
    )
    assert project.models() == models

    (project.folder / "tiny.yaml").write_text(TINY)  # touched, and the same
    assert "binary: finished already" in project.make("train").stdout
    assert project.models() == models

    (project.folder / "tiny.yaml").write_text(TINY.replace("epochs: 1", "epochs: 2"))
    refused = project.make("train")
    assert refused.returncode == 2
    assert "error: runs/films-tiny/binary holds a run that is finished, of another configuration" in refused.stderr
    assert "(optim.epochs was 1, is 2): name another folder with --out (make: another CONFIG)" in refused.stderr
    assert project.models() == models

    project.python("exit 0")  # nothing is served here, and nothing is to be stopped
    (project.folder / "secrets").mkdir()
    (project.folder / "secrets" / "keys").touch()
    (project.folder / "model_store").mkdir()
    (project.folder / "model_store" / "binary.mar").touch()
    assert project.make("clean").returncode == 0
    assert project.models() == models
    assert (project.folder / "secrets" / "keys").exists()
    assert (project.folder / "model_store" / "binary.mar").exists()
    assert (project.folder / "films" / "Data_Entry_2017.csv").exists()
    assert project.make("clean-runs").stdout.startswith("removing runs/: 2 trained models\n")
    assert project.models() == {}


def test_another_data_folder_is_another_run(made: Path) -> None:
    (made / "mine").mkdir()
    (made / "mine" / "Data_Entry_2017.csv").touch()
    would = make(made, "archive", "DATA=mine", "CONFIG=training/configs/small.yaml")
    assert "--data.folder mine" in would
    assert "--run runs/mine-small" in would
    assert "sample_data" not in would


@pytest.fixture
def mine(made: Path) -> Path:
    """The project after a user's own run, packed in bfloat16 after the demo's."""
    (made / "model_store" / "packed").write_text("runs/mine-small bfloat16\n")
    return made


@pytest.mark.parametrize("step", ["serve", "predict"])
def test_what_is_packed_is_served_and_never_replaced_by_the_demo(mine: Path, step: str) -> None:
    os.utime(mine / "training" / "configs" / "demo.yaml", (9000, 9000))
    would = make(mine, step, "FILMS=a.png")
    assert "gateway.background start" in would
    assert "training." not in would


def test_the_demo_packs_its_own_pair_again(mine: Path) -> None:
    would = make(mine, "demo")
    assert "training.archive --run runs/sample-demo --precision auto" in would
    assert would.index("training.archive") < would.index("gateway.background start")


def test_serving_a_named_run_packs_it_first(mine: Path) -> None:
    would = make(mine, "serve", "DATA=data/sample")
    assert "training.archive --run runs/sample-demo" in would


def test_another_precision_packs_anew_and_stays(made: Path) -> None:
    assert "--run runs/sample-demo --precision bfloat16" in make(made, "archive", "PRECISION=bfloat16")
    (made / "model_store" / "packed").write_text("runs/sample-demo bfloat16\n")
    assert "training.archive" not in make(made, "archive")
    os.utime(made / "handlers" / "decoding" / "image.py", (3000, 3000))
    assert "--run runs/sample-demo --precision bfloat16" in make(made, "archive")


def test_bench_makes_the_peers_an_environment_of_their_own_once(made: Path) -> None:
    would = make(made, "bench", "QUICK=1")
    assert "venv --without-pip .venv-peers" in would
    assert would.index(".venv-peers/bin/python -m pip install") < would.index("benchmarks.serving --quick")
    assert ".venv/bin/pip" not in would
    (made / ".venv-peers").mkdir()
    (made / ".venv-peers" / "installed").touch()
    assert "pip install" not in make(made, "bench")
