"""Two processes, as two machines, give the run that one process gives, and survive each other."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from training.fit import processes
from training.fit.config import TrainConfig, save_config
from training.train import train
from workflows.files.text_files import DataError

ROOT = Path(__file__).parents[2]
ACCELERATE = Path(sys.executable).with_name("accelerate")
WHOLE, SHARDS = (ROOT / "deploy" / "accelerate" / f"2x8{kind}.yaml" for kind in ("", "-fsdp"))
TOLERANCE = 1e-4
"""Of losses, AUC and weights between one process and two: sums run in another order, and nothing else may differ."""
EPOCHS = 4


def machine(rank: int, config: TrainConfig, folder: Path, port: int, *more: str, fsdp: bool) -> subprocess.Popen[str]:
    """One of two machines, as deploy/README.md starts them: a launcher with one process, in a folder of its own.

    The launcher knows several processes on GPUs alone; the variables let CPUs stand in for them.
    """
    folder.mkdir(exist_ok=True)
    settings = folder / f"{Path(config.out).name}.yaml"
    save_config(config, settings)
    launch = [str(ACCELERATE), "launch", "--config_file", str(SHARDS if fsdp else WHOLE), "--num_processes", "2"]
    place = ["--machine_rank", str(rank), "--main_process_ip", "127.0.0.1", "--main_process_port", str(port)]
    module = "tests.training.sharded_on_cpus" if fsdp else "training.train"
    on_cpus = {"ACCELERATE_TORCH_DEVICE": "cpu"} if fsdp else {"ACCELERATE_USE_CPU": "true"}
    return subprocess.Popen(
        [*launch, *place, "-m", module, "--config", settings.name, *more],
        cwd=folder,
        env={**os.environ, **on_cpus, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def both(config: TrainConfig, tmp_path: Path, port: int, *more: str, fsdp: bool = False) -> list[subprocess.Popen[str]]:
    """Two machines that share the run's folder; each has its own folder, with its own cache of films."""
    return [machine(rank, config, tmp_path / f"machine-{rank}", port, *more, fsdp=fsdp) for rank in (0, 1)]


def ended(machines: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each."""
    said = [launcher.communicate() for launcher in machines]
    return [(launcher.returncode, *texts) for launcher, texts in zip(machines, said, strict=True)]


def cut(machines: Sequence[subprocess.Popen[str]], config: TrainConfig, lost: int) -> str:
    """Switches one machine off after the first epoch's line; what the other one then says on standard error."""
    assert machines[0].stdout is not None
    assert '"epoch": 1' in next(line for line in machines[0].stdout if line.startswith("disease {"))
    launcher = psutil.Process(machines[lost].pid)
    for one in [launcher, *launcher.children(recursive=True)]:
        one.kill()
    machines[lost].communicate()
    [(code, _, complaint)] = ended([machines[1 - lost]])
    assert code != 0
    assert 1 <= len(epochs_of(config)) < config.optim.epochs
    return complaint


def epochs_of(config: TrainConfig) -> list[dict[str, float]]:
    return [json.loads(line) for line in Path(config.out, "epochs.jsonl").read_text().splitlines()]


def weights_of(config: TrainConfig) -> dict[str, torch.Tensor]:
    return load_file(Path(config.out) / "checkpoint" / "model.safetensors")


def require_that_of_one_process(config: TrainConfig, tmp_path: Path) -> None:
    """The same run in this process has the same epochs and checkpoint, but for rounding."""
    alone = replace(config, out=f"{config.out}-alone", data=replace(config.data, cache=str(tmp_path / "cache")))
    train(alone)
    assert len(epochs_of(alone)) == len(epochs_of(config)) == config.optim.epochs
    for epoch, wanted in zip(epochs_of(config), epochs_of(alone), strict=True):
        assert epoch == pytest.approx(wanted, abs=TOLERANCE)
    weights = weights_of(config)
    for name, wanted in weights_of(alone).items():
        assert torch.allclose(weights.pop(name), wanted, rtol=0, atol=TOLERANCE), name
    assert not weights


@pytest.fixture
def shared(tiny_config, tmp_path: Path):
    """Configurations whose cache of films is the machine's own; unless told, processes draw nothing for themselves."""

    def build(name: str, epochs: int, draws: bool = False, **optim: float) -> TrainConfig:
        made = tiny_config("disease", tmp_path / name, epochs=epochs, **optim)
        made.data.cache = "cache"
        if not draws:
            made.augment.rotation = made.augment.brightness = made.augment.contrast = 0.0
            made.model.dropout = 0.0
        return made

    return build


@pytest.mark.slow
def test_two_processes_give_the_run_of_one(shared, tmp_path: Path, free_ports) -> None:
    """Of films that do not fill the last batch: each of them counts once in an epoch, as with one process."""
    two = shared("two", epochs=2)
    results = ended(both(two, tmp_path, free_ports(1)[0]))
    assert [code for code, _, _ in results] == [0, 0], results
    assert len(list(Path(two.out, "state").glob("random_states_*"))) == 2
    require_that_of_one_process(two, tmp_path)


@pytest.mark.slow
def test_a_machine_that_is_switched_off_ends_the_other_and_both_go_on_to_the_unbroken_run_s_end(
    shared, tmp_path: Path, free_ports
) -> None:
    whole, broken = (shared(name, EPOCHS, draws=True) for name in ("whole", "broken"))
    port, other = free_ports(2)
    complaint = cut(both(broken, tmp_path, port), broken, lost=1)
    assert "error: another process of this training has ended, or its machine cannot be reached" in complaint
    assert f"{broken.out} holds what is finished: the same command with --resume, on every machine, goes" in complaint
    assert not list(Path(broken.out).glob(".*"))  # nothing half-written
    results = ended([*both(broken, tmp_path, port, "--resume"), *both(whole, tmp_path, other)])
    assert [code for code, _, _ in results] == [0, 0, 0, 0], results
    assert "resuming after epoch" in results[0][1]
    assert epochs_of(broken) == epochs_of(whole)
    weights, others = weights_of(whole), weights_of(broken)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.slow
def test_sharded_weights_give_the_run_of_whole_ones_and_go_on_after_a_kill(shared, tmp_path: Path, free_ports) -> None:
    """With all that the optimiser has: a moving average, layer decay, clipping, warm-up."""
    sharded = shared("sharded", EPOCHS, ema=0.9, clip=0.1, layer_decay=0.75, warmup=0.2)
    [port] = free_ports(1)
    complaint = cut(both(sharded, tmp_path, port, fsdp=True), sharded, lost=0)
    assert "error: another process of this training has ended, or its machine cannot be reached" in complaint
    results = ended(both(sharded, tmp_path, port, "--resume", fsdp=True))
    assert [code for code, _, _ in results] == [0, 0], results
    assert "resuming after epoch" in results[0][1]
    Path(sharded.out, "finished").unlink()
    with pytest.raises(DataError, match=r"state is of weights in shards \(FSDP\): go on with the accelerate"):
        train(replace(sharded, data=replace(sharded.data, cache=str(tmp_path / "cache"))), resume=True)
    require_that_of_one_process(sharded, tmp_path)


@pytest.mark.parametrize(
    ("seen", "refusal"),
    [
        (("other films", True), "see other films, or another configuration, than process 0"),
        ((None, False), "do not see the .* of process 0: name a folder with --out that all machines share"),
    ],
)
def test_machines_that_see_other_films_or_another_run_s_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: tuple[str | None, bool], refusal: str
) -> None:
    """What the second of three processes finds is given; the first and the third are this one."""

    class Process:
        num_processes, is_main_process = 3, True

    monkeypatch.setattr(processes, "broadcast_object_list", lambda names: names)
    monkeypatch.setattr(processes, "gather_object", lambda own: [*own, (seen[0] or own[0][0], seen[1]), *own])
    with pytest.raises(DataError, match=rf"processes \[1\] {refusal}"):
        processes.require_one_run(Process(), "films", tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())
    monkeypatch.setattr(processes, "gather_object", lambda own: own * 3)
    processes.require_one_run(Process(), "films", tmp_path / "run")
