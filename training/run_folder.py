"""What a run leaves in its folder, and how it goes on after a kill: every piece appears whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from training.config import TrainConfig, save_config
from training.curves import draw_curves
from training.data import DataError, Films
from training.model import save_checkpoint

History = list[dict[str, Any]]


def start_run(accelerator: Accelerator, config: TrainConfig, out: Path, resume: bool) -> History:
    """Empties the folder, or loads the last finished epoch's state; returns the lines of the finished epochs.

    Raises:
        DataError: the state was made with another configuration.
    """
    if accelerator.is_main_process:
        _restore(out / "state")
        for folder in (out, out / "binary", out / "disease"):
            _restore(folder / "checkpoint")
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
        for left in ("checkpoint", "state", "tensorboard"):
            shutil.rmtree(out / left, ignore_errors=True)
    if accelerator.is_main_process:
        out.mkdir(parents=True, exist_ok=True)
        save_config(config, out / "training.yaml")
        (out / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    accelerator.wait_for_everyone()
    return history


def write_epoch(config: TrainConfig, model: Any, films: Films, history: History, out: Path) -> None:
    """The epoch's line and the curves; the checkpoint, where it is the best so far."""
    with (out / "epochs.jsonl").open("a") as lines:
        lines.write(json.dumps(history[-1]) + "\n")
    draw_curves(history, f"{config.stage}, {films.folder.resolve().name}", films.synthetic, out / "curves.png")
    if history[-1]["validation_auc"] != best_auc(history):
        return
    for folder, network in networks_of(config, model, out).items():
        partial = folder / "checkpoint.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_checkpoint(network, config.model, partial)
        save_config(config, partial / "training.yaml")
        (partial / "data.json").write_text(json.dumps({**films.summary(), "epoch": history[-1]}, indent=2))
        _swap(partial, folder / "checkpoint")


def networks_of(config: TrainConfig, model: Any, out: Path) -> dict[Path, Any]:
    """The networks that a run saves, by the folder that gets the checkpoint."""
    if config.stage == "joint":
        return {out / "binary": model.binary, out / "disease": model.disease}
    return {out: model}


def write_state(accelerator: Accelerator, config: TrainConfig, history: History, out: Path) -> None:
    """What ``start_run`` resumes from."""
    partial = out / "state.partial"
    accelerator.save_state(str(partial))
    if accelerator.is_main_process:
        (partial / "run.json").write_text(json.dumps({"config": config.resolved(), "history": history}))
        _swap(partial, out / "state")
    accelerator.wait_for_everyone()


def best_auc(history: History) -> float | None:
    areas = [line["validation_auc"] for line in history if line["validation_auc"] is not None]
    return max(areas) if areas else None


def _swap(partial: Path, final: Path) -> None:
    """A kill in between leaves ``final`` or ``final.old``, never half a folder; ``_restore`` mends the second."""
    old = final.with_name(f"{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def _restore(final: Path) -> None:
    old = final.with_name(f"{final.name}.old")
    if old.exists() and not final.exists():
        old.rename(final)
