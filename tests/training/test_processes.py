"""Two processes give the run that one process gives with the same effective batch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from training.fit.config import TrainConfig, save_config
from training.train import train

ROOT = Path(__file__).parents[2]
TOLERANCE = 2e-3
"""Of losses and AUC: the sums run in another order, and nothing else may differ."""


def launched(config: TrainConfig, file: Path, port: int) -> None:
    save_config(config, file)
    launch = [str(Path(sys.executable).with_name("accelerate")), "launch", "--cpu", "--num_processes", "2"]
    options = ["--num_machines", "1", "--mixed_precision", "no", "--main_process_port", str(port)]
    subprocess.run([*launch, *options, "-m", "training.train", "--config", str(file)], cwd=ROOT, check=True)


def test_two_processes_give_the_metrics_of_one(tiny_config, tmp_path: Path, free_ports) -> None:
    def config(name: str) -> TrainConfig:
        made = tiny_config("disease", tmp_path / name, epochs=2, films_per_epoch=64, batch_size=16)
        made.augment.rotation = made.augment.brightness = made.augment.contrast = 0.0  # drawn by process
        made.model.dropout = 0.0
        made.data.cache = str(tmp_path / f"{name}-cache")  # empty: of the two processes one fills it
        return made

    train(config("one"))
    launched(config("two"), tmp_path / "two.yaml", free_ports(1)[0])
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "epochs.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(one) == len(two) == 2
    for first, second in zip(one, two, strict=True):
        for name in ("loss", "validation_loss", "validation_auc"):
            assert second[name] == pytest.approx(first[name], abs=TOLERANCE)
