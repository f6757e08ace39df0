"""Trains one stage of the cascade.

    python -m training.train --config training/configs/demo.yaml --stage binary --out runs/demo/binary
    python -m training.train --config training/configs/demo.yaml --stage disease --out runs/demo/disease
    accelerate launch -m training.train ...                  # several GPUs or processes
    python -m training.train ... --resume                    # after a kill: on from the last finished epoch

A run folder then holds
    checkpoint/     the best epoch by validation AUC (config.json, model.safetensors, training.yaml, data.json)
    state/          what --resume needs
    epochs.jsonl    a line an epoch;  curves.png, tensorboard/  the same, drawn
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.data_loader import DataLoaderShard
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import get_cosine_schedule_with_warmup
from transformers.utils.logging import disable_progress_bar

from handlers.findings import FINDINGS
from handlers.reading import FINDING
from training.augment import augment
from training.batches import (
    Batch,
    CachedFilms,
    EpochSampler,
    balancing_weights,
    loader,
    model_inputs,
    positive_weights,
)
from training.config import TrainConfig, parse_config, save_config
from training.curves import draw_curves
from training.data import DataError, Films, read_films
from training.labels import LabelError
from training.metrics import mean_auc
from training.model import build_model, save_checkpoint
from training.pixels import load_pixels

CHECK_EVERY = 20
"""Steps between two looks at the loss: a look makes a GPU wait."""


class NonFiniteLoss(RuntimeError):
    """The loss became NaN or infinite."""


def main() -> None:
    config, resume = parse_config()
    try:
        train(config, resume)
    except (DataError, LabelError, NonFiniteLoss) as fault:
        sys.exit(f"error: {fault}")


def train(config: TrainConfig, resume: bool = False) -> None:
    """Runs all epochs; the best checkpoint by validation AUC stays in ``config.out``.

    Raises:
        DataError, LabelError: the data folder cannot be trained on.
        NonFiniteLoss: the loss is no number any more.
    """
    disable_progress_bar()  # transformers'; an epoch has one of its own
    out = Path(config.out)
    accelerator = Accelerator(mixed_precision=config.precision, log_with="tensorboard", project_dir=out / "tensorboard")
    set_seed(config.seed)
    with accelerator.main_process_first():
        films, pixels = _load(config)
    targets = films.findings if config.stage == "binary" else films.diseases
    labels = [FINDING] if config.stage == "binary" else list(FINDINGS)
    rows = films.rows("train")
    sampler = EpochSampler(balancing_weights(targets[rows]), config.optim.films_per_epoch, config.seed)
    share = config.optim.batch_size // accelerator.num_processes
    batches = loader(CachedFilms(pixels, targets, rows), sampler, share)
    validation = loader(CachedFilms(pixels, targets, films.rows("validation")), None, share)
    model, optimizer, schedule, batches, validation = _prepare(accelerator, config, labels, batches, validation)
    weights = positive_weights(targets[rows]) if config.optim.class_weights else torch.ones(len(labels))
    weights = weights.to(accelerator.device)

    first, history = _start(accelerator, config, out, resume)
    accelerator.init_trackers("")
    for epoch in range(first, config.optim.epochs):
        set_seed(config.seed + 1000 * (epoch + 1), device_specific=True)  # an epoch's draws depend on its number alone
        batches.set_epoch(epoch)  # not the sampler's own: accelerate's loader would set that back to its count
        loss = _train_epoch(accelerator, config, model, optimizer, schedule, batches, weights, epoch)
        scores, truth, validation_loss = _validate(accelerator, config, model, validation, weights)
        area = mean_auc(truth, scores)
        line = {"epoch": epoch + 1, "loss": loss, "validation_loss": validation_loss, "validation_auc": area}
        history.append(line)
        accelerator.log({name: value for name, value in line.items() if value is not None}, step=epoch + 1)
        if accelerator.is_main_process:
            _write_epoch(config, accelerator.unwrap_model(model), films, history, out)
        _save_state(accelerator, config, history, out)
        accelerator.print(f"{config.stage} {json.dumps(line)}", flush=True)
    accelerator.end_training()
    accelerator.print(f"{config.stage}: best validation AUC {_best(history)}, checkpoint in {out / 'checkpoint'}")


def _load(config: TrainConfig) -> tuple[Films, np.ndarray]:
    data = config.data
    films = read_films(Path(data.folder), data.validation, data.split_seed, data.skip_unreadable)
    return load_pixels(films, config.model.image_size, Path(data.cache), data.skip_unreadable)


def _prepare(
    accelerator: Accelerator,
    config: TrainConfig,
    labels: list[str],
    batches: DataLoader[Batch],
    validation: DataLoader[Batch],
) -> tuple[nn.Module, AdamW, LRScheduler, DataLoaderShard, DataLoaderShard]:
    optim = config.optim
    model = build_model(config.model, labels)
    optimizer = AdamW(model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)
    model, optimizer, batches, validation = accelerator.prepare(model, optimizer, batches, validation)
    steps = len(batches) * optim.epochs
    # Not prepared: accelerate would advance a prepared schedule once per process at each step.
    schedule = get_cosine_schedule_with_warmup(optimizer, int(optim.warmup * steps), steps)
    accelerator.register_for_checkpointing(schedule)
    return model, optimizer, schedule, batches, validation


def _train_epoch(
    accelerator: Accelerator,
    config: TrainConfig,
    model: nn.Module,
    optimizer: AdamW,
    schedule: LRScheduler,
    batches: DataLoaderShard,
    weights: Tensor,
    epoch: int,
) -> float:
    model.train()
    total = torch.zeros((), device=accelerator.device)
    title = f"{config.stage} epoch {epoch + 1}/{config.optim.epochs}"
    hidden = None if accelerator.is_main_process else True  # None: shown where a person watches
    for step, (films, targets) in enumerate(tqdm(batches, title, unit="batch", disable=hidden), start=1):
        inputs = model_inputs(augment(films.float() / 255.0, config.augment), config.model)
        with accelerator.autocast():
            logits = model(pixel_values=inputs).logits
        loss = binary_cross_entropy_with_logits(logits.float(), targets, pos_weight=weights)
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        total += loss.detach()
        if (step % CHECK_EVERY == 0 or step == len(batches)) and not torch.isfinite(total):
            raise NonFiniteLoss(
                f"{config.stage}, epoch {epoch + 1}: the loss became {total.item()} by step {step}. Lower optim.lr "
                f"(now {config.optim.lr}), or set precision to 'no' (now '{config.precision}')"
            )
    return float(accelerator.reduce(total / len(batches), reduction="mean"))


@torch.no_grad()
def _validate(
    accelerator: Accelerator, config: TrainConfig, model: nn.Module, batches: DataLoader[Batch], weights: Tensor
) -> tuple[np.ndarray, np.ndarray, float]:
    """Validation's scores [N, L], targets [N, L] and mean loss."""
    model.eval()
    logits, truths = [], []
    for films, targets in batches:
        with accelerator.autocast():
            outputs = model(pixel_values=model_inputs(films.float() / 255.0, config.model)).logits
        gathered, truth = accelerator.gather_for_metrics((outputs.float(), targets))
        logits.append(gathered)
        truths.append(truth)
    all_logits, truth = torch.cat(logits), torch.cat(truths)
    loss = binary_cross_entropy_with_logits(all_logits, truth, pos_weight=weights)
    return torch.sigmoid(all_logits).cpu().numpy(), truth.cpu().numpy().astype(np.int8), float(loss)


def _write_epoch(config: TrainConfig, model: Any, films: Films, history: list[dict[str, Any]], out: Path) -> None:
    with (out / "epochs.jsonl").open("a") as lines:
        lines.write(json.dumps(history[-1]) + "\n")
    draw_curves(history, f"{config.stage}, {films.folder.resolve().name}", films.synthetic, out / "curves.png")
    if history[-1]["validation_auc"] != _best(history):
        return
    partial = out / "checkpoint.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    save_checkpoint(model, config.model, partial)
    save_config(config, partial / "training.yaml")
    (partial / "data.json").write_text(json.dumps({**films.summary(), "epoch": history[-1]}, indent=2))
    _swap(partial, out / "checkpoint")


def _best(history: list[dict[str, Any]]) -> float | None:
    areas = [line["validation_auc"] for line in history if line["validation_auc"] is not None]
    return max(areas) if areas else None


def _save_state(accelerator: Accelerator, config: TrainConfig, history: list[dict[str, Any]], out: Path) -> None:
    partial = out / "state.partial"
    accelerator.save_state(str(partial))
    if accelerator.is_main_process:
        (partial / "run.json").write_text(json.dumps({"config": config.resolved(), "history": history}))
        _swap(partial, out / "state")
    accelerator.wait_for_everyone()


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


def _start(accelerator: Accelerator, config: TrainConfig, out: Path, resume: bool) -> tuple[int, list[dict[str, Any]]]:
    """The first epoch to run, and the lines of those before it."""
    if accelerator.is_main_process:
        _restore(out / "state")
        _restore(out / "checkpoint")
    accelerator.wait_for_everyone()
    state, history = out / "state", []
    if resume and state.exists():
        saved = json.loads((state / "run.json").read_text())
        if saved["config"] != config.resolved():
            raise DataError(
                f"{state} was made with another configuration: start anew without --resume, or change --out"
            )
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
    return len(history), history


if __name__ == "__main__":
    main()
