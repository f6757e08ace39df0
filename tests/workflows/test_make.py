"""make: every step is listed, and a step whose inputs have not changed is not run again."""

import os
import shutil
import subprocess
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


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The project after a whole run, a second between each step and the next."""
    ignored = shutil.ignore_patterns(".*", "data", "cache", "runs", "logs", "model_store")
    folder = Path(shutil.copytree(ROOT, tmp_path / "project", ignore=ignored))
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
        ("handlers/decoding/image.py", ["training.train", "training.evaluate", "training.archive"], ["sample_data"]),
        ("training/evaluation/thresholds.py", ["training.evaluate", "training.archive"], ["training.train"]),
        ("workflows/chest_xray.yaml", ["training.archive"], ["training.train", "training.evaluate"]),
        ("training/synthetic/findings.py", ["sample_data", "training.train", "training.archive"], ["pip install"]),
        ("requirements.lock", ["pip install"], ["training.train"]),
    ],
)
def test_a_change_runs_what_depends_on_it(made: Path, changed: str, run: list[str], left: list[str]) -> None:
    os.utime(made / changed, (3000, 3000))
    would = make(made, "archive")
    assert all(step in would for step in run)
    assert not any(step in would for step in left)


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
    assert "training.archive --run runs/sample-demo --precision float32" in would
    assert would.index("training.archive") < would.index("gateway.background start")


def test_serving_a_named_run_packs_it_first(mine: Path) -> None:
    would = make(mine, "serve", "DATA=data/sample")
    assert "training.archive --run runs/sample-demo" in would


def test_another_precision_packs_anew_and_stays(made: Path) -> None:
    assert "--run runs/sample-demo --precision bfloat16" in make(made, "archive", "PRECISION=bfloat16")
    (made / "model_store" / "packed").write_text("runs/sample-demo bfloat16\n")
    assert "training.archive" not in make(made, "archive")
    os.utime(made / "handlers" / "image.py", (3000, 3000))
    assert "--run runs/sample-demo --precision bfloat16" in make(made, "archive")
