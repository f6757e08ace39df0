"""A full disk ends a command with what was to be written and what is free; nothing half-written stays, and what was
there before is as it was.
"""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from client.journal import PredictionsTable
from gateway.keys import KEYS_FILE, first_key, make
from tests.client.gateway_stub import KEY, GatewayStub
from tests.small_disk import ROOT, SmallDisk
from training.archive import archive
from training.evaluate import evaluate
from training.fit.config import TrainConfig, save_config
from training.train import train
from workflows.active import Active
from workflows.files.atomic import NotWritten, size_of


@pytest.fixture(scope="module")
def store(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "model_store"
    archive(run, folder, "1.0.0")
    return folder


@pytest.fixture
def disk(run: Path, store: Path, small_disk: SmallDisk) -> SmallDisk:
    """With an evaluated run, its archives and keys on it, and room for nothing more."""
    shutil.copytree(run, small_disk.folder / "run")
    shutil.copytree(store, small_disk.folder / "model_store")
    shutil.copy(ROOT / "config.properties", small_disk.folder)
    first_key(small_disk.folder / "secrets")
    small_disk.fill()
    return small_disk


@pytest.fixture
def config(tiny_config, small_disk: SmallDisk, tmp_path: Path) -> tuple[Path, TrainConfig]:
    """A training whose run goes to the small disk."""
    made = tiny_config("binary", small_disk.folder / "new", epochs=3)
    save_config(made, tmp_path / "config.yaml")
    return tmp_path / "config.yaml", made


COMMANDS = {
    "evaluate": ("run/evaluation.json", "training.evaluate --run {disk}/run"),
    "predict": ("new/p.csv", "training.predict --checkpoint {disk}/run/binary/checkpoint --out {disk}/new/p.csv"),
    "report": ("run/report", "training.report --run {disk}/run"),
    "localise": ("run/localisation.json", "training.localise --run {disk}/run"),
    "archive": ("model_store/archives", "training.archive --run {disk}/run --store {disk}/model_store"),
    "recalibrate": (
        "site/archives",
        "training.recalibrate --store {disk}/model_store --data {data} --out {disk}/site",
    ),
    "score a table": (
        "scores.json",
        "training.evaluate --predictions {disk}/run/predictions.csv --data {data} --out {disk}/scores.json",
    ),
    "draw films": ("drawn", "training.sample_data --out {disk}/drawn --films 60 --patients 20"),
    "model card": ("CARD.md", "training.evaluation.model_card --store {disk}/model_store --out {disk}/CARD.md"),
    "roll": ("model_store/live/chest_xray_", "workflows.roll --store {packed} --server {disk}"),
    "make a key": ("secrets/keys.json", "gateway.keys make ward-3 --secrets {disk}/secrets"),
    "revoke a key": ("secrets/keys.json", "gateway.keys revoke first --secrets {disk}/secrets"),
    "make the first key": ("fresh/keys.json", "gateway.keys first --secrets {disk}/fresh"),
    "train": ("new/training.yaml", "training.train --config {elsewhere}/config.yaml"),
    "sweep": (
        "sweep",
        "training.sweep --space {elsewhere}/space.yaml --trials 1 --out {disk}/sweep --config {elsewhere}/config.yaml",
    ),
}
"""What cannot be written, and the command."""


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_says_what_it_could_not_write_and_leaves_the_disk_as_it_was(
    disk: SmallDisk, config: tuple[Path, TrainConfig], store: Path, sample: Path, tmp_path: Path, what: str
) -> None:
    (tmp_path / "space.yaml").write_text("optim.lr: [1.0e-3, 1.0e-2]\n")
    fails, command = COMMANDS[what]
    before = disk.files()
    said = disk.refuse(*command.format(disk=disk.folder, data=sample, packed=store, elsewhere=tmp_path).split())
    if what != "sweep" or disk.mounted:
        assert said.startswith(f"error: no space left for {disk.folder / fails}")
        assert said.endswith(" are free there. Make room, or name another place")
    assert {name: content for name, content in disk.files().items() if content or name in before} == before


def test_the_cache_of_pixels_says_what_it_takes_before_the_first_film_is_decoded(
    small_disk: SmallDisk, config: tuple[Path, TrainConfig]
) -> None:
    """The map of a sparse file on a full disk ended the process: Bus error."""
    small_disk.fill(left=64 * 1024)
    words = ["training.train", "--config", config[0], "--data.cache", small_disk.folder / "cache"]
    before = small_disk.files()
    said = small_disk.refuse(*words)
    [folder] = (small_disk.folder / "cache").iterdir()
    assert f"no space left for {folder}/pixels-" in said
    assert f"it takes {size_of(120 * 32 * 32)}, " in said
    if small_disk.mounted:
        free = re.search(r", ([\d.]+) kB are free there", said)
        assert free is not None
        assert 64 * 1.024 - 2 * 4.096 <= float(free[1]) <= 64 * 1.024 + 0.1  # the cache's folder may take a page
    assert [path.name for path in folder.iterdir()] == ["lock"]
    assert {name for name, content in small_disk.files().items() if content} == set(before)
    small_disk.clear()
    process = small_disk.start(*words, "--optim.epochs", "1")
    assert process.communicate()[1] == ""
    assert process.returncode == 0


def test_a_training_that_fills_the_disk_goes_on_from_its_last_whole_epoch(
    small_disk: SmallDisk, config: tuple[Path, TrainConfig], tiny_config, run: Path, tmp_path: Path
) -> None:
    sizes = {name: sum(path.stat().st_size for path in (run / "binary" / name).iterdir()) for name in PARTS}
    left = sizes["checkpoint"] + sizes["state"] * 3 // 2  # the second epoch's state does not fit beside the first's
    small_disk.fill(left if small_disk.mounted else sizes["state"] // 4)
    said = small_disk.refuse("training.train", "--config", config[0])
    new = small_disk.folder / "new"
    assert f"no space left for {new}/" in said
    assert "it takes more than " in said
    assert not list(new.glob(".*"))
    if small_disk.mounted:
        assert len(json.loads((new / "state" / "run.json").read_text())["history"]) == 1
        assert (new / "checkpoint" / "model.safetensors").exists()
    small_disk.clear()
    process = small_disk.start("training.train", "--config", config[0], "--resume")
    output, said = process.communicate()
    assert (process.returncode, said) == (0, "")
    if small_disk.mounted:
        assert "binary: resuming after epoch 1" in output
    train(tiny_config("binary", tmp_path / "whole", epochs=3))
    assert (new / "epochs.jsonl").read_text() == (tmp_path / "whole" / "epochs.jsonl").read_text()
    weights = [folder / "checkpoint" / "model.safetensors" for folder in (new, tmp_path / "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


PARTS = ("checkpoint", "state")


def test_a_new_training_that_finds_no_room_leaves_the_old_one_s_checkpoint(
    disk: SmallDisk, config: tuple[Path, TrainConfig]
) -> None:
    old = disk.folder / "run" / "binary"
    checkpoint = old / "checkpoint"
    disk.clear()
    for left in ("state", "tensorboard"):  # which would make room
        shutil.rmtree(old / left)
    disk.fill()
    before = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    disk.refuse("training.train", "--config", config[0], "--out", old, "--force")
    assert {path.name: path.read_bytes() for path in checkpoint.iterdir()} == before


def test_a_sweep_that_fills_the_disk_keeps_its_finished_trials(
    small_disk: SmallDisk, config: tuple[Path, TrainConfig], tmp_path: Path
) -> None:
    (tmp_path / "space.yaml").write_text("optim.lr: [1.0e-3, 1.0e-2]\n")
    out = small_disk.folder / "sweep"
    words = ["training.sweep", "--space", tmp_path / "space.yaml", "--out", out, "--config", config[0]]
    words += ["--optim.epochs", "1", "--trials"]
    process = small_disk.start(*words, "1")
    said = process.communicate()[1]
    assert process.returncode == 0, said
    before = (out / "trials.csv").read_bytes()
    small_disk.fill()
    small_disk.refuse(*words, "2")
    assert (out / "trials.csv").read_bytes() == before
    small_disk.clear()
    process = small_disk.start(*words, "2")
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert (pd.read_csv(out / "trials.csv")["state"] == "COMPLETE").sum() == 2


def test_an_archive_that_is_scored_onto_a_full_disk_goes_on_where_it_stopped(
    small_disk: SmallDisk, tmp_path: Path
) -> None:
    films = 300  # rows of some 250 bytes
    (tmp_path / "films").mkdir()
    for number in range(films):
        (tmp_path / "films" / f"{number:08d}_000.png").write_bytes(f"{0.4 + number / 1000:.3f}".encode())
    stub = GatewayStub()
    try:
        out = small_disk.folder / "predictions.csv"
        words = ["client.score", tmp_path / "films", "--out", out, "--address", stub.address]
        small_disk.fill()
        assert f"{out}.partial: " in small_disk.refuse(*words, CXR_KEY=KEY)
        assert small_disk.files() == {}
        small_disk.clear()
        small_disk.fill(left=20 * 4096)
        assert f"{out}.partial: " in small_disk.refuse(*words, CXR_KEY=KEY)
        before = stub.posts.copy()
        small_disk.clear()
        with PredictionsTable(out) as table:
            kept = {(tmp_path / "films" / name).read_bytes() for name in table.names}
        assert kept
        process = small_disk.start(*words, CXR_KEY=KEY)
        process.communicate()
        assert process.returncode == 0
        again = stub.posts - before  # of the films that the command before had under way, some may be counted late
        assert len(again) == films - len(kept)
        assert not again.keys() & kept
    finally:
        stub.stop()
    table = pd.read_csv(out)
    assert len(table) == table["Image Index"].nunique() == films
    assert table["error"].isna().all()


def test_evaluations_that_belong_together_are_all_old_or_all_new(disk: SmallDisk) -> None:
    """With room for some of the four files, none is replaced."""
    if not disk.mounted:
        pytest.skip("a limit on each file leaves no room for some of four")
    disk.clear()
    disk.fill(left=4096)
    before = disk.files()
    disk.refuse("training.evaluate", "--run", disk.folder / "run")
    assert disk.files() == before
    disk.clear()
    assert evaluate(disk.folder / "run") == json.loads((disk.folder / "run" / "evaluation.json").read_text())


def test_the_served_pair_stays_where_the_switch_cannot_be_written(small_disk: SmallDisk) -> None:
    active = Active(small_disk.folder / "active")
    active.set("chest_xray_11111111")
    before = small_disk.files()
    if not small_disk.mounted:
        pytest.skip("in this process no limit on files can be set")
    small_disk.fill()
    with pytest.raises(NotWritten):
        active.set("chest_xray_22222222")
    assert small_disk.files() == before
    assert active.name() == "chest_xray_11111111"


def test_a_first_key_that_was_not_written_is_made_anew(small_disk: SmallDisk) -> None:
    """keys.json without first.key would keep everybody out."""
    small_disk.fill()
    small_disk.refuse("gateway.keys", "first", "--secrets", small_disk.folder / "secrets")
    small_disk.clear()
    made = first_key(small_disk.folder / "secrets")
    assert made is not None
    assert made.stat().st_mode & 0o777 == 0o600
    assert (small_disk.folder / "secrets" / KEYS_FILE).stat().st_mode & 0o777 == 0o600
    assert make(small_disk.folder / "secrets" / KEYS_FILE, "ward-3").startswith("cxr_")
