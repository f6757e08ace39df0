"""The batch job starts one launcher a machine, which accelerate takes, with every GPU's process among them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from training.fit.config import TrainConfig

ROOT = Path(__file__).parents[2]
JOB = ROOT / "deploy" / "slurm" / "train.sbatch"
GPUS = 8
SRUN = """#!/bin/bash
# One task a machine, one after the other.
shift
for ((SLURM_NODEID = 0; SLURM_NODEID < SLURM_JOB_NUM_NODES; SLURM_NODEID++)); do export SLURM_NODEID; "$@"; done
"""
SCONTROL = """#!/bin/bash
[ "$*" = "show hostnames gpu[07-08]" ] && printf 'gpu07\\ngpu08\\n'
"""
ACCELERATE = f"""#!{sys.executable}
import json, sys
open("calls", "a").write(json.dumps(sys.argv[1:]) + "\\n")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's folder on a cluster, with a launcher that writes down what it was told in ``calls``."""
    shutil.copytree(ROOT / "deploy" / "accelerate", tmp_path / "deploy" / "accelerate")
    programs = {"bin/srun": SRUN, "bin/scontrol": SCONTROL, ".venv/bin/accelerate": ACCELERATE}
    for name, text in programs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


def submit(project: Path, machines: int, **told: str) -> subprocess.CompletedProcess[str]:
    slurm = {
        "SLURM_SUBMIT_DIR": str(project),
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NUM_NODES": str(machines),
        "SLURM_JOB_NODELIST": "gpu[07-08]",
    }
    environment = {"PATH": f"{project / 'bin'}:{os.environ['PATH']}", **slurm, **told}
    return subprocess.run(["bash", JOB], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("machines", [1, 2])
def test_every_machine_gets_a_launcher_that_knows_its_number_and_the_first(
    project: Path, machines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = submit(project, machines, DATA="/data/nih", CONFIG="training/configs/notebook.yaml", STAGE="disease")
    assert (done.returncode, done.stderr) == (0, "")
    calls = [json.loads(line) for line in (project / "calls").read_text().splitlines()]
    monkeypatch.chdir(project)
    for rank, call in enumerate(calls):
        assert call[0] == "launch"
        arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(call[1:]))
        assert (arguments.machine_rank, arguments.num_machines) == (rank, machines)
        assert arguments.num_processes == machines * GPUS
        assert (arguments.main_process_ip, arguments.main_process_port) == ("gpu07", 23456)
        assert (arguments.multi_gpu, arguments.module, arguments.training_script) == (True, True, "training.train")
        assert arguments.training_script_args == [
            *("--config", "training/configs/notebook.yaml", "--data.folder", "/data/nih"),
            *("--data.cache", "cache", "--stage", "disease", "--out", "runs/nih-notebook/disease", "--resume"),
        ]
    assert len(calls) == machines


def test_a_job_may_have_its_weights_in_shards_and_its_films_on_the_machines_own_disks(project: Path) -> None:
    told = {"DATA": "/data/nih", "CONFIG": "recipe.yaml", "STAGE": "disease", "FSDP": "1", "CACHE": "/scratch/films"}
    done = submit(project, 2, **told)
    assert (done.returncode, done.stderr) == (0, "")
    for line in (project / "calls").read_text().splitlines():
        call = json.loads(line)
        assert call[call.index("--config_file") + 1] == "deploy/accelerate/2x8-fsdp.yaml"
        assert call[call.index("--data.cache") + 1] == "/scratch/films"


@pytest.mark.parametrize("lacking", ["DATA", "CONFIG", "STAGE"])
def test_a_job_that_lacks_a_word_says_which_and_starts_nothing(project: Path, lacking: str) -> None:
    told = {"DATA": "/data/nih", "CONFIG": "training/configs/notebook.yaml", "STAGE": "binary"}
    del told[lacking]
    done = submit(project, 1, **told)
    assert done.returncode != 0
    assert f"{lacking}: " in done.stderr
    assert not (project / "calls").exists()


@pytest.mark.parametrize("machines", [1, 2])
def test_a_configuration_is_accelerate_s_and_shares_the_batch_among_its_gpus(machines: int) -> None:
    made = load_config_from_file(str(ROOT / "deploy" / "accelerate" / f"{machines}x8.yaml"))
    assert (made.num_machines, made.num_processes) == (machines, machines * GPUS)
    assert made.distributed_type == "MULTI_GPU"
    assert TrainConfig.__dataclass_fields__["optim"].default_factory().batch_size % made.num_processes == 0


def test_a_sharded_configuration_is_the_other_one_but_for_its_shards() -> None:
    files = (ROOT / "deploy" / "accelerate" / f"2x8{kind}.yaml" for kind in ("", "-fsdp"))
    whole, shards = (load_config_from_file(str(file)) for file in files)
    differing = {name for name, value in vars(whole).items() if vars(shards)[name] != value}
    assert differing == {"distributed_type", "fsdp_config"}
    assert (shards.distributed_type, shards.fsdp_config["fsdp_version"]) == ("FSDP", 2)


def test_slurm_s_own_lines_ask_for_what_the_configurations_use() -> None:
    asked = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", JOB.read_text(), re.MULTILINE))
    assert (asked["nodes"], asked["ntasks-per-node"], asked["gpus-per-node"]) == ("1", "1", str(GPUS))
