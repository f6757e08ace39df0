"""A run is reproducible, survives a kill, refuses what it does not understand, and stops when it diverges."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from training.fit.config import TrainConfig, parse_config, save_config
from training.train import NonFiniteLoss, train

CONFIGS = Path(__file__).parents[2] / "training" / "configs"


def start(config: TrainConfig, folder: Path, *more: str) -> subprocess.Popen[str]:
    """The command line, as a user runs it; its standard output has a line per finished epoch."""
    folder.mkdir(exist_ok=True)
    save_config(config, folder / "config.yaml")
    command = [sys.executable, "-m", "training.train", "--config", str(folder / "config.yaml"), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CONFIGS.parents[1])


def test_resume_after_kill_9_gives_the_run_that_was_not_killed(tiny_config, tmp_path: Path) -> None:
    whole, killed = (
        tiny_config("binary", tmp_path / "whole", epochs=4),
        tiny_config("binary", tmp_path / "killed", epochs=4),
    )
    train(whole)
    process = start(killed, tmp_path / "configs")
    assert process.stdout is not None
    assert '"epoch": 1' in next(line for line in process.stdout if line.startswith("binary {"))
    process.kill()
    process.wait()
    lines = (tmp_path / "killed" / "epochs.jsonl").read_text().splitlines()
    assert 1 <= len(lines) < 4
    resumed = start(killed, tmp_path / "configs", "--resume")
    output, _ = resumed.communicate()
    assert resumed.returncode == 0
    assert "resuming after epoch" in output
    assert (tmp_path / "killed" / "epochs.jsonl").read_text() == (tmp_path / "whole" / "epochs.jsonl").read_text()
    weights = [load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("whole", "killed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_resume_with_another_configuration_is_refused(tiny_config, tmp_path: Path) -> None:
    train(tiny_config("binary", tmp_path / "run", epochs=1))
    with pytest.raises(ValueError, match="another configuration"):
        train(tiny_config("binary", tmp_path / "run", epochs=1, lr=1e-5), resume=True)


def test_a_finished_run_holds_what_its_docstring_promises(run: Path) -> None:
    for stage in ("binary", "disease"):
        folder = run / stage
        epochs = [json.loads(line) for line in (folder / "epochs.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in epochs] == [1, 2, 3]
        assert set(epochs[0]) == {"epoch", "loss", "validation_loss", "validation_auc"}
        assert Image.open(folder / "curves.png").size == (1200, 480)
        assert list(folder.glob("tensorboard/**/events*"))
        assert (folder / "checkpoint" / "model.safetensors").exists()
        resolved = yaml.safe_load((folder / "checkpoint" / "training.yaml").read_text())
        assert resolved["stage"] == stage
        assert resolved["optim"]["batch_size"] == 16
        data = json.loads((folder / "checkpoint" / "data.json").read_text())
        assert data["synthetic"] is True
        best = max(line["validation_auc"] for line in epochs)
        assert data["epoch"]["validation_auc"] == best


def test_a_loss_that_is_no_number_stops_with_the_step_and_a_remedy(tiny_config, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLoss, match=r"binary, epoch 1: the loss became .* Lower optim.lr \(now 1e\+30\)"):
        train(tiny_config("binary", tmp_path / "run", lr=1e30))


@pytest.mark.parametrize("argument", ["--optim.learning_rate=1", "--optim.lr=fast", "--stage=third"])
def test_unknown_keys_and_values_are_refused_by_name(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse_config(["--stage=binary", "--out=x", argument])
    assert stopped.value.code == 2
    assert argument.split("=")[0].strip("-").split(".")[-1] in capsys.readouterr().err


def test_an_unknown_key_in_a_file_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "typo.yaml").write_text("stage: binary\nout: x\noptim:\n  epoch: 3\n")
    with pytest.raises(SystemExit):
        parse_config(["--config", str(tmp_path / "typo.yaml")])
    assert "optim.epoch" in capsys.readouterr().err


def test_the_notebook_s_configuration() -> None:
    """DESIGN's list, value by value."""
    config, _ = parse_config(["--config", str(CONFIGS / "notebook.yaml"), "--stage=disease", "--out=x"])
    model, optim, changes = config.model, config.optim, config.augment
    assert (model.backbone, model.sizes, model.image_size, model.dropout) == (
        "google/vit-base-patch16-224",
        None,
        224,
        0.1,
    )
    assert (model.mean, model.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (changes.flip, changes.rotation, changes.brightness, changes.contrast) == (0.5, 10.0, 0.2, 0.2)
    assert (optim.lr, optim.weight_decay, optim.batch_size, optim.epochs) == (1e-4, 1e-5, 128, 5)
    assert (optim.films_per_epoch, optim.class_weights, optim.warmup) == (12_000, True, 0.0)


def test_overrides_on_the_command_line_win_over_the_file() -> None:
    arguments = ["--config", str(CONFIGS / "demo.yaml"), "--stage=binary", "--out=x", "--optim.lr=0.5", "--resume"]
    config, resume = parse_config(arguments)
    assert config.optim.lr == 0.5
    assert config.model.sizes is not None
    assert resume


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile wants a C++ compiler on a CPU")
def test_a_compiled_run_is_the_run_that_is_not_compiled(tiny_config, tmp_path: Path) -> None:
    plain = tiny_config("binary", tmp_path / "plain", epochs=1)
    plain.model.dropout = 0.0  # compiled, dropout draws other numbers
    compiled = replace(plain, out=str(tmp_path / "compiled"), compile=True)
    lines = [train(config)[0] for config in (plain, compiled)]
    for name in ("loss", "validation_loss"):
        assert lines[1][name] == pytest.approx(lines[0][name], abs=2e-3)
    weights = [load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("plain", "compiled")]
    assert weights[0].keys() == weights[1].keys()
