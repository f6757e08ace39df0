"""What a run leaves in its folder, and how it goes on after a kill: every piece appears whole or not at all."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from training.data.films import Films
from training.fit.config import TrainConfig, save_config
from training.fit.curves import draw_curves
from training.fit.model import save_checkpoint
from workflows.files.atomic import restore, write_text, written_folder
from workflows.files.text_files import DataError

History = list[dict[str, Any]]


def start_run(accelerator: Accelerator, config: TrainConfig, out: Path, resume: bool) -> History:
    """Begins anew, or loads the last finished epoch's state; returns the lines of the finished epochs.

    The checkpoint of an earlier run stays until the first epoch of this one replaces it.

    Raises:
        DataError: the state was made with another configuration.
        NotWritten: the disk is full.
    """
    if accelerator.is_main_process:
        for folder in (out / "state", *(each / "checkpoint" for each in (out, out / "binary", out / "disease"))):
            restore(folder)
    accelerator.wait_for_everyone()
    state: Path = out / "state"
    history: History = []
    if resume and state.exists():
        saved = json.loads((state / "run.json").read_text())
        if saved["config"] != config.resolved():
            raise DataError(f"{state} was made with another configuration: start without --resume, or change --out")
        accelerator.load_state(str(state))
        history = saved["history"]
        accelerator.print(f"{config.stage}: resuming after epoch {len(history)}")
    elif accelerator.is_main_process:
        for left in ("state", "tensorboard"):
            shutil.rmtree(out / left, ignore_errors=True)
    if accelerator.is_main_process:
        save_config(config, out / "training.yaml")
        _write_lines(history, out)
    accelerator.wait_for_everyone()
    return history


def write_epoch(config: TrainConfig, model: Any, films: Films, history: History, out: Path) -> None:
    """The epoch's line and the curves; the checkpoint, where it is the best so far.

    Raises:
        NotWritten: the disk is full; what was not written is as it was.
    """
    _write_lines(history, out)
    draw_curves(history, f"{config.stage}, {films.folder.resolve().name}", films.synthetic, out / "curves.png")
    if history[-1]["validation_auc"] != best_auc(history):
        return
    for folder, network in networks_of(config, model, out).items():
        with written_folder(folder / "checkpoint") as new:
            save_checkpoint(network, config.model, new)
            save_config(config, new / "training.yaml")
            (new / "data.json").write_text(json.dumps({**films.summary(), "epoch": history[-1]}, indent=2))


def networks_of(config: TrainConfig, model: Any, out: Path) -> dict[Path, Any]:
    """The networks that a run saves, by the folder that gets the checkpoint."""
    if config.stage == "joint":
        return {out / "binary": model.binary, out / "disease": model.disease}
    return {out: model}


def write_state(accelerator: Accelerator, config: TrainConfig, history: History, out: Path) -> None:
    """What ``start_run`` resumes from.

    Raises:
        NotWritten: the disk is full; the last state is as it was.
    """
    with ExitStack() as stack:
        new = [str(stack.enter_context(written_folder(out / "state"))) if accelerator.is_main_process else None]
        [folder] = broadcast_object_list(new)  # each process adds its own random numbers' state
        accelerator.save_state(folder)
        if accelerator.is_main_process:
            (Path(folder) / "run.json").write_text(json.dumps({"config": config.resolved(), "history": history}))
        accelerator.wait_for_everyone()


def best_auc(history: History) -> float | None:
    areas = [line["validation_auc"] for line in history if line["validation_auc"] is not None]
    return max(areas) if areas else None


def _write_lines(history: History, out: Path) -> None:
    write_text(out / "epochs.jsonl", "".join(json.dumps(line) + "\n" for line in history))
