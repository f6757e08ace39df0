"""Two processes, as one machine's or as two machines, give the run that one process gives, and survive each other."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from training.fit.config import TrainConfig, save_config
from training.train import train

ROOT = Path(__file__).parents[2]
ACCELERATE = Path(sys.executable).with_name("accelerate")
CONFIG = ROOT / "deploy" / "accelerate" / "2x8.yaml"
TOLERANCE = 1e-4
"""Of losses and AUC between one process and two: the sums run in another order, and nothing else may differ."""
EPOCHS = 5


def machine(rank: int, config: TrainConfig, folder: Path, port: int, *more: str) -> subprocess.Popen[str]:
    """One of two machines, as deploy/README.md starts them: a launcher with one process, in a folder of its own.

    The launcher knows several processes on GPUs alone; the variable lets CPUs stand in for them.
    """
    folder.mkdir(exist_ok=True)
    save_config(config, folder / "config.yaml")
    launch = [str(ACCELERATE), "launch", "--config_file", str(CONFIG), "--num_processes", "2"]
    place = ["--machine_rank", str(rank), "--main_process_ip", "127.0.0.1", "--main_process_port", str(port)]
    return subprocess.Popen(
        [*launch, *place, "-m", "training.train", "--config", "config.yaml", *more],
        cwd=folder,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def both(config: TrainConfig, tmp_path: Path, port: int, *more: str) -> list[subprocess.Popen[str]]:
    """Two machines that share the run's folder; each has its own folder, with its own cache of films."""
    return [machine(rank, config, tmp_path / f"machine-{rank}", port, *more) for rank in (0, 1)]


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each."""
    said = [process.communicate() for process in processes]
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


def switch_off(process: subprocess.Popen[str]) -> None:
    """Kills a launcher and all that it started, as a machine without power ends them."""
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        one.kill()
    process.communicate()


def epochs_of(out: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in Path(out, "epochs.jsonl").read_text().splitlines()]


@pytest.fixture
def shared(tiny_config, tmp_path: Path):
    """Configurations whose cache of films is the machine's own, and whose draws are every film once."""

    def build(name: str, epochs: int) -> TrainConfig:
        made = tiny_config("disease", tmp_path / name, epochs=epochs)
        made.data.cache = "cache"
        return made

    return build


@pytest.mark.slow
def test_two_processes_give_the_metrics_of_one(shared, tiny_config, tmp_path: Path, free_ports) -> None:
    """Of films that do not fill the last batch: each of them counts once in an epoch, as with one process."""
    one, two = (shared(name, epochs=2) for name in ("one", "two"))
    for made in (one, two):
        made.augment.rotation = made.augment.brightness = made.augment.contrast = 0.0  # drawn by process
        made.model.dropout = 0.0
    one.data.cache = tiny_config("disease", tmp_path).data.cache
    train(one)
    results = ended(both(two, tmp_path, free_ports(1)[0]))
    assert [code for code, _, _ in results] == [0, 0], results
    assert sorted(path.name for path in Path(two.out, "state").glob("random_states_*")) == [
        "random_states_0.pkl",
        "random_states_1.pkl",
    ]
    assert len(epochs_of(one.out)) == len(epochs_of(two.out)) == 2
    for first, second in zip(epochs_of(one.out), epochs_of(two.out), strict=True):
        assert second == pytest.approx(first, abs=TOLERANCE)


@pytest.mark.slow
def test_a_machine_that_is_switched_off_ends_the_other_and_both_go_on_to_the_unbroken_run_s_end(
    shared, tmp_path: Path, free_ports
) -> None:
    whole, broken = shared("whole", EPOCHS), shared("broken", EPOCHS)
    results = ended(both(whole, tmp_path, free_ports(1)[0]))
    assert [code for code, _, _ in results] == [0, 0], results
    first, second = both(broken, tmp_path, port := free_ports(1)[0])
    assert first.stdout is not None
    assert '"epoch": 1' in next(line for line in first.stdout if line.startswith("disease {"))
    switch_off(second)
    [(code, _, complaint)] = ended([first])
    assert code != 0
    assert "error: another process of this training has ended, or its machine cannot be reached" in complaint
    assert f"{broken.out} holds what is finished: the same command with --resume, on every machine, goes" in complaint
    assert 1 <= len(epochs_of(broken.out)) < EPOCHS
    assert not list(Path(broken.out).glob(".*"))  # nothing half-written
    results = ended(both(broken, tmp_path, port, "--resume"))
    assert [code for code, _, _ in results] == [0, 0], results
    assert "resuming after epoch" in results[0][1]
    assert epochs_of(broken.out) == epochs_of(whole.out)
    weights = [load_file(Path(config.out) / "checkpoint" / "model.safetensors") for config in (whole, broken)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
