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

from training.fit.config import ConfigError, OptimConfig, TrainConfig, parse_config, save_config
from training.train import NonFiniteLoss, train
from workflows.files.text_files import DataError

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


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_neither_replaced_nor_trained_again_without_a_word(tiny_config, tmp_path: Path) -> None:
    config = tiny_config("binary", tmp_path / "run", epochs=1)
    history = train(config)
    before = contents(tmp_path / "run")
    with pytest.raises(DataError, match="run holds a run that is finished: go on with it with --resume, name another"):
        train(config)
    assert train(config, resume=True) == history
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_of_another_configuration_is_not_replaced_without_a_word(
    tiny_config, tmp_path: Path, resume: bool
) -> None:
    train(tiny_config("binary", tmp_path / "run", epochs=1))
    before = contents(tmp_path / "run")
    with pytest.raises(DataError, match=r"optim.lr was 0.002, is 1e-05.*--force" if resume else "go on with it"):
        train(tiny_config("binary", tmp_path / "run", epochs=1, lr=1e-5), resume=resume)
    assert contents(tmp_path / "run") == before


def test_a_run_of_other_films_is_not_gone_on_with(tiny_config, sample: Path, tmp_path: Path) -> None:
    config = tiny_config("binary", tmp_path / "run", epochs=1)
    config.data.folder = str(shutil.copytree(sample, tmp_path / "films"))
    train(config)
    film = next((tmp_path / "films").glob("images_*/images/*.png"))
    Image.new("L", (300, 300), 9).save(film)
    with pytest.raises(DataError, match=r"of other films than those that .*films holds now"):
        train(config, resume=True)


def test_a_run_that_was_moved_with_its_films_goes_on(tiny_config, sample: Path, tmp_path: Path) -> None:
    train(tiny_config("binary", tmp_path / "run", epochs=1))
    (tmp_path / "run").rename(tmp_path / "moved")
    config = tiny_config("binary", tmp_path / "moved", epochs=1)
    config.data.folder = str(shutil.copytree(sample, tmp_path / "films"))
    assert len(train(config, resume=True)) == 1


def test_a_forced_run_that_is_killed_in_its_first_epoch_leaves_the_old_one_finished(
    tiny_config, tmp_path: Path
) -> None:
    old, new = (tiny_config("binary", tmp_path / "run", epochs=2, lr=lr) for lr in (2e-3, 1e-3))
    train(old)
    before = contents(tmp_path / "run")

    class Killed(BaseException):
        pass

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.train._validate", lambda _: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train(new, force=True)
    assert contents(tmp_path / "run") == before
    assert len(train(new, force=True)) == 2
    finished = json.loads((tmp_path / "run" / "finished").read_text())
    assert finished["config"]["optim"]["lr"] == 1e-3
    assert len(list((tmp_path / "run" / "tensorboard").glob("**/events*"))) == 1


def test_a_run_without_its_state_is_not_gone_on_with_and_stays(tiny_config, tmp_path: Path) -> None:
    config = tiny_config("binary", tmp_path / "run", epochs=1)
    train(config)
    shutil.rmtree(tmp_path / "run" / "state")
    (tmp_path / "run" / "finished").unlink()
    before = contents(tmp_path / "run")
    with pytest.raises(DataError, match="is not finished, and no state to go on from"):
        train(config, resume=True)
    assert contents(tmp_path / "run") == before


def test_a_run_of_make_s_older_mark_is_known_by_its_state(tiny_config, tmp_path: Path) -> None:
    config = tiny_config("binary", tmp_path / "run", epochs=1)
    history = train(config)
    (tmp_path / "run" / "finished").write_text("")
    assert train(config, resume=True) == history


def test_a_joint_run_does_not_replace_the_two_that_it_starts_from(run: Path, tiny_config) -> None:
    before = contents(run)
    with pytest.raises(DataError, match="holds a run"):
        train(replace(tiny_config("joint", run), start=str(run)))
    assert contents(run) == before


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
def test_unknown_keys_and_values_are_refused_by_name(argument: str) -> None:
    with pytest.raises(ConfigError, match=argument.split("=")[0].strip("-")):
        parse_config(["--stage=binary", "--out=x", argument])


def test_an_unknown_key_in_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "typo.yaml").write_text("stage: binary\nout: x\noptim:\n  epoch: 3\n")
    with pytest.raises(ConfigError, match="'optim' does not accept option 'epoch'"):
        parse_config(["--config", str(tmp_path / "typo.yaml")])


SMALL = ["--config", str(CONFIGS / "small.yaml"), "--stage=binary", "--out=x"]


@pytest.mark.parametrize(
    "value",
    [
        *("seed=-1", "seed=4294967296"),
        *("data.validation=0", "data.validation=1", "data.validation=.nan", "data.split_seed=-1"),
        *(
            "model.image_size=0",
            "model.image_size=100",
            "model.blocks=[0]",
            "model.blocks=[3,2]",
            "model.dropout=1",
            "model.dropout=-0.1",
            "model.drop_path=1",
        ),
        *("model.mean=[0.5]", "model.mean=[0.5,0.5,127]", "model.std=[0,1,1]", "model.std=[.nan,1,1]"),
        *("model.sizes.patch=0", "model.sizes.layers=0", "model.sizes.heads=3"),
        *("augment.crop=0", "augment.crop=1.1", "augment.flip=2", "augment.rotation=-5", "augment.brightness=1.5"),
        *("optim.lr=0", "optim.lr=-1e-4", "optim.lr=.nan", "optim.lr=.inf", "optim.weight_decay=-1"),
        *("optim.batch_size=0", "optim.epochs=0", "optim.films_per_epoch=0", "optim.warmup=1", "optim.warmup=-0.1"),
        *("optim.layer_decay=0", "optim.layer_decay=1.5", "optim.ema=1", "optim.ema=0", "optim.clip=0"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_its_key(value: str) -> None:
    key = value.partition("=")[0]
    with pytest.raises(ConfigError, match=key if key != "model.sizes.heads" else "model.sizes.hidden is 128, no mult"):
        parse_config([*SMALL, f"--{value}"])


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        (["--optim.loss=asymmetric", "--optim.class_weights=true"], ["optim.loss", "optim.class_weights"]),
        (["--model.backbone=google/vit-large-patch16-224"], ["model.backbone", "model.sizes"]),
        (["--start=runs/demo", "--probe.flip=true"], ["start", "probe"]),
        (["--probe.flip=true"], ["probe", "model.sizes"]),
        (["--model.blocks=[2]"], ["model.blocks", "model.sizes.layers"]),
        (["--resume", "--force"], ["--resume", "--force"]),
    ],
)
def test_of_two_keys_none_is_ignored_untold(values: list[str], keys: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config([*SMALL, *values])
    assert all(key in str(refused.value) for key in keys)


def test_a_refused_configuration_ends_the_command_with_one_line() -> None:
    words = [sys.executable, "-m", "training.train", *SMALL, "--optim.lr=-1"]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=CONFIGS.parents[1])
    assert (ended.returncode, ended.stderr) == (2, "error: optim.lr is -1.0, not in (0, inf)\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has half precision")
def test_a_precision_that_the_machine_lacks_is_refused_by_its_key(tiny_config, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="precision 'fp16' cannot be had here"):
        train(replace(tiny_config("binary", tmp_path / "run"), precision="fp16"))


def test_a_joint_run_of_another_network_than_it_starts_from_is_refused_by_the_key(
    run: Path, tiny_config, tmp_path: Path
) -> None:
    config = replace(tiny_config("joint", tmp_path / "joint"), start=str(run))
    config.model.sizes = replace(config.model.sizes, layers=3)
    with pytest.raises(DataError, match=r"was trained with model.sizes .*'layers': 2.*, not with .*'layers': 3"):
        train(config)


NOTEBOOK = {
    "model": {
        "backbone": "google/vit-base-patch16-224",
        "sizes": None,
        "image_size": 224,
        "blocks": None,
        "pool": "cls",
        "dropout": 0.1,
        "drop_path": 0.0,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
    "augment": {"crop": 1.0, "flip": 0.5, "rotation": 10.0, "brightness": 0.2, "contrast": 0.2},
    "optim": {
        "lr": 1e-4,
        "weight_decay": 1e-5,
        "batch_size": 128,
        "epochs": 5,
        "warmup": 0.0,
        "schedule": "cosine",
        "films_per_epoch": 12_000,
        "class_weights": True,
        "loss": "bce",
        "layer_decay": 1.0,
        "ema": None,
        "clip": None,
    },
}
"""What the notebook published, and that it had none of what our recipe adds."""


def test_the_notebook_s_configuration() -> None:
    """In the file itself, every key: whatever our own defaults become."""
    path = CONFIGS / "notebook.yaml"
    config, _, _ = parse_config(["--config", str(path), "--stage=disease", "--out=x"])
    resolved, spelled = config.resolved(), yaml.safe_load(path.read_text())
    for section, published in NOTEBOOK.items():
        assert resolved[section] == spelled[section] == published


def test_imbalance_is_corrected_once_at_most_unless_told() -> None:
    optim = OptimConfig()
    assert optim.films_per_epoch is None
    assert not optim.class_weights


def test_overrides_on_the_command_line_win_over_the_file() -> None:
    arguments = ["--config", str(CONFIGS / "demo.yaml"), "--stage=binary", "--out=x", "--optim.lr=0.5", "--resume"]
    config, resume, force = parse_config(arguments)
    assert config.optim.lr == 0.5
    assert config.model.sizes is not None
    assert (resume, force) == (True, False)


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
