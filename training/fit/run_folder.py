"""What a run leaves in its folder, and how it goes on after a kill: every piece appears whole or not at all."""

import hashlib
import json
import shutil
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from accelerate.utils.constants import FSDP_MODEL_NAME
from torch.distributed.checkpoint.api import CheckpointException

from training.data.films import Films
from training.data.labels import any_finding
from training.fit.config import DataConfig, TrainConfig, save_config
from training.fit.curves import draw_curves
from training.fit.model import save_checkpoint
from workflows.files.atomic import restore, write_text, written_folder
from workflows.files.text_files import DataError

History = list[dict[str, Any]]
Origin = dict[str, Any]
"""What a run depends on: ``config``, every key but those that say where it lies, and ``data``, a hash."""

FINISHED = "finished"
"""The file that says of a run that all its epochs are done; it holds the run's origin."""
STATE = Path("state", "run.json")
"""The state's own account: the run's origin and its history."""


def origin_of(config: TrainConfig, films: Films) -> Origin:
    """The configuration, and a hash of the films."""
    return {"config": _placeless(config.resolved()), "data": hash_of(films)}


def hash_of(films: Films) -> str:
    """SHA-256 of the films' names, sizes, patients, splits and labels."""
    table = films.table[["image", "patient", "split"]].assign(
        size=[path.stat().st_size for path in films.table["path"]]
    )
    digest = hashlib.sha256(table.to_csv(index=False).encode() + films.diseases.tobytes())
    if (films.findings != any_finding(films.diseases)).any():
        digest.update(films.findings.tobytes())  # else they say no more than the diseases do
    return digest.hexdigest()


def finished_already(accelerator: Accelerator, config: TrainConfig, origin: Origin, resume: bool, force: bool) -> bool:
    """Whether ``config.out`` holds this very run, and all of it; nothing is changed there.

    Raises:
        DataError: it holds a run, and it was not said what is to become of that one, or it is another than this.
    """
    out = Path(config.out)
    if accelerator.is_main_process:
        for folder in (out / "state", *(folder / "checkpoint" for folder in folders_of(config))):
            restore(folder)
    accelerator.wait_for_everyone()
    finished, state = out / FINISHED, out / STATE
    held = [path for path in (finished, state, *(each / "checkpoint" for each in folders_of(config))) if path.exists()]
    if force or not held:
        return False
    what = f"{out} holds a run that is {'finished' if finished.exists() else 'not finished'}"
    remedy = "name another folder with --out (make: another CONFIG), or replace it with --force (make train FORCE=1)"
    if not resume:
        raise DataError(f"{what}: go on with it with --resume, {remedy}")
    known = next((path for path in (finished, state) if path.exists() and path.stat().st_size), None)
    if known is None:
        raise DataError(f"{what}, and no state to go on from: {remedy}")
    earlier = json.loads(known.read_text())
    if others := _differing(_placeless(earlier["config"]), origin["config"]):
        raise DataError(f"{what}, of another configuration ({', '.join(others)}): {remedy}")
    if earlier.get("data", origin["data"]) != origin["data"]:
        raise DataError(f"{what}, of other films than those that {config.data.folder} holds now: {remedy}")
    return finished.exists()


def load_state(accelerator: Accelerator, out: Path) -> History:
    """Loads the last finished epoch's state; returns the lines of the finished epochs, none where there is no state.

    Raises:
        DataError: the state is damaged, of another version of this project, or of whole weights where these are in
            shards, and the other way round.
    """
    if not (out / STATE).exists():
        return []
    if (out / "state" / f"{FSDP_MODEL_NAME}_0").exists() != accelerator.is_fsdp2:
        kept = "whole weights" if accelerator.is_fsdp2 else "weights in shards (FSDP)"
        raise DataError(f"{out / 'state'} is of {kept}: go on with the accelerate configuration that it was begun with")
    try:
        accelerator.load_state(str(out / "state"))
    except (ValueError, KeyError, RuntimeError, CheckpointException) as fault:
        raise DataError(f"{out / 'state'} cannot be gone on from ({fault}): start anew with --force") from fault
    history: History = json.loads((out / STATE).read_text())["history"]
    return history


def replace_run(config: TrainConfig) -> None:
    """Ends the life of the run that lies in the new one's folder, whose first epoch is done: it is finished no more."""
    for folder in (Path(config.out), *folders_of(config)):
        (folder / FINISHED).unlink(missing_ok=True)
    save_config(config, Path(config.out) / "training.yaml")
    shutil.rmtree(Path(config.out) / "tensorboard", ignore_errors=True)


def folders_of(config: TrainConfig) -> list[Path]:
    """Those that get a checkpoint: the run's own, or one for each of a joint run's two networks."""
    out = Path(config.out)
    return [out / "binary", out / "disease"] if config.stage == "joint" else [out]


def checkpoint_of(start: Path, stage: str) -> Path:
    """Of a stage, in a run's own folder or in one of both stages.

    Raises:
        DataError: there is none.
    """
    for folder in (start / stage / "checkpoint", start / "checkpoint"):
        if folder.exists():
            return folder
    raise DataError(f"start: {start} holds neither checkpoint nor {stage}/checkpoint")


def read_history(out: Path) -> History:
    return [json.loads(line) for line in (out / "epochs.jsonl").read_text().splitlines()]


def write_epoch(config: TrainConfig, model: Any, films: Films, history: History, out: Path) -> None:
    """The epoch's line and the curves; the checkpoint, where it is the best so far.

    Raises:
        NotWritten: the disk is full; what was not written is as it was.
    """
    write_text(out / "epochs.jsonl", "".join(json.dumps(line) + "\n" for line in history))
    draw_curves(history, f"{config.stage}, {films.folder.resolve().name}", films.synthetic, out / "curves.png")
    if history[-1]["validation_auc"] != best_auc(history):
        return
    networks = [model.binary, model.disease] if config.stage == "joint" else [model]
    for folder, network in zip(folders_of(config), networks, strict=True):
        with written_folder(folder / "checkpoint") as new:
            save_checkpoint(network, config.model, new)
            save_config(config, new / "training.yaml")
            (new / "data.json").write_text(json.dumps({**films.summary(), "epoch": history[-1]}, indent=2))


def write_state(accelerator: Accelerator, origin: Origin, history: History, out: Path) -> None:
    """What ``load_state`` goes on from.

    Raises:
        NotWritten: the disk is full; the last state is as it was.
    """
    with ExitStack() as stack:
        new = [str(stack.enter_context(written_folder(out / "state"))) if accelerator.is_main_process else None]
        [folder] = broadcast_object_list(new)  # each process adds its own random numbers' state
        try:
            accelerator.save_state(folder)
        except CheckpointException as fault:  # of sharded weights; no Exception: a full disk would go unnamed
            raise RuntimeError(str(fault)) from fault
        if accelerator.is_main_process:
            (Path(folder) / STATE.name).write_text(json.dumps({**origin, "history": history}))
        accelerator.wait_for_everyone()


def best_auc(history: History) -> float | None:
    areas = [line["validation_auc"] for line in history if line["validation_auc"] is not None]
    return max(areas) if areas else None


def _placeless(resolved: dict[str, Any]) -> dict[str, Any]:
    """Without the keys that say where things lie: a run may be moved, and so may its films.

    A key that an older run did not have has its default: that run was as if.
    """
    data = {**asdict(DataConfig()), **resolved["data"]}
    data = {key: value for key, value in data.items() if key not in ("folder", "cache")}
    return {**{key: value for key, value in resolved.items() if key != "out"}, "data": data}


def _differing(earlier: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """``optim.lr was 0.001, is 0.002``, a text a key."""
    texts = []
    for key in {**now, **earlier}:
        old, new = earlier.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            texts += _differing(old, new, f"{prefix}{key}.")
        elif old != new:
            texts.append(f"{prefix}{key} was {old}, is {new}")
    return texts
