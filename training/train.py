"""Trains one stage of the cascade, both together, or the single model they are compared with.

    python -m training.train --config training/configs/demo.yaml --stage binary --out runs/demo/binary
    python -m training.train --config training/configs/demo.yaml --stage disease --out runs/demo/disease
    python -m training.train --config training/configs/demo.yaml --stage joint --start runs/demo --out runs/joint
    accelerate launch -m training.train ...                  # several GPUs or processes
    python -m training.train ... --resume                    # after a kill: on from the last finished epoch
    python -m training.train ... --force                     # in place of the run that the folder holds

A run is never replaced untold: without one of the two words a folder that holds one is refused, and with --force what
is there stays until the first new epoch is done.

A run folder then holds
    checkpoint/     the best epoch by validation AUC (config.json, model.safetensors, training.yaml, data.json)
    state/          what --resume needs
    finished        all epochs are done, and of which configuration and data
    epochs.jsonl    a line an epoch;  curves.png, tensorboard/  the same, drawn
"""

import json
import os
import shutil
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.data_loader import DataLoaderShard, prepare_data_loader
from accelerate.utils import InitProcessGroupKwargs, set_seed
from numpy.typing import NDArray
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import get_scheduler
from transformers.utils.logging import disable_progress_bar

from handlers.findings import FINDING, FINDINGS
from training.data.films import Films, configured_films, refuse_empty
from training.data.outcomes import describe_outcomes, require_outcomes
from training.data.pixels import load_pixels
from training.evaluation.metrics import mean_auc
from training.fit import run_folder
from training.fit.augment import augment
from training.fit.batches import (
    CachedFilms,
    EpochSampler,
    Shares,
    balancing_weights,
    labelled_rows,
    model_inputs,
    positive_weights,
    training_loader,
    validation_loader,
)
from training.fit.config import ProbeConfig, Stage, TrainConfig, parse_config, save_config
from training.fit.joint import JointVit
from training.fit.model import build_model, load_checkpoint, with_statistics
from training.fit.optimise import Loss, make_loss, make_optimizer
from training.fit.probe import fit_probe
from training.fit.processes import PATIENCE, naming_lost_processes, require_one_run
from training.fit.run_folder import FINISHED, History
from training.fit.sharding import ShardedAverage, gather_by_block, whole_weights
from workflows import command_line
from workflows.command_line import Fault
from workflows.files.atomic import naming, write_text
from workflows.files.text_files import DataError

CHECK_EVERY = 20
"""Steps between two looks at the loss: a look makes a GPU wait."""


class NonFiniteLoss(Fault):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Training:
    """What an epoch needs: the network with what moves it, its films, and the loss."""

    config: TrainConfig
    accelerator: Accelerator
    model: nn.Module
    average: AveragedModel | None  # validated and saved instead of the model, where it is kept
    whole: nn.Module | None  # where weights are in shards: what a checkpoint is made with, on the main process
    optimizer: AdamW
    schedule: LRScheduler
    shares: Shares
    batches: DataLoaderShard
    validation: DataLoaderShard
    loss: Loss


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.train") -> None:
    config, resume, force = parse_config(arguments, prog)
    with naming_lost_processes(config.out):
        train(config, resume, force)


def train(config: TrainConfig, resume: bool = False, force: bool = False) -> History:
    """Runs all epochs; the best checkpoint by validation AUC stays in ``config.out``. Returns a line per epoch.

    Raises:
        DataError: the data folder cannot be trained on, its films lack what this stage needs, or ``config.out`` holds a
            run that is neither to be gone on with nor to be replaced.
        NonFiniteLoss: the loss is no number any more.
        NotWritten: the disk is full; --resume goes on from the last finished epoch.
    """
    disable_progress_bar()  # transformers'; an epoch has one of its own
    config = replace(config, model=with_statistics(config.model))
    out = Path(config.out)
    accelerator = _accelerator(config)
    set_seed(config.seed)
    films = checked_films(config)
    origin = run_folder.origin_of(config, films)
    if run_folder.finished_already(accelerator, config, origin, resume, force):
        accelerator.print(f"{config.stage}: finished already, checkpoint in {out / 'checkpoint'}")
        (out / FINISHED).touch()  # make's sign that this has been looked at
        return run_folder.read_history(out)
    require_one_run(accelerator, origin, out)
    films, pixels = load_pixels(films, config.model.image_size, Path(config.data.cache), config.data.skip_unreadable)
    refuse_empty(films)  # of films that could not be read
    require_outcomes(films, config.stage)
    accelerator.print("\n".join(describe_outcomes(films)))
    training = prepare(config, accelerator, films, pixels)
    history = run_folder.load_state(accelerator, out) if resume else []
    if history:
        accelerator.print(f"{config.stage}: resuming after epoch {len(history)}")
    if accelerator.is_main_process and not (out / "training.yaml").exists():
        save_config(config, out / "training.yaml")  # a full disk is noticed before an epoch is spent
    if config.probe:
        return _probe(config, config.probe, accelerator, films, pixels, origin)
    begun = len(history)
    for epoch in range(begun, config.optim.epochs):
        set_seed(config.seed + 1000 * (epoch + 1), device_specific=True)  # an epoch's draws depend on its number alone
        training.batches.set_epoch(epoch)  # the sampler's own would be set back to the loader's count
        loss = train_epoch(training, epoch)
        scores, truth, validation_loss = _validate(training)
        area = mean_auc(truth, scores)
        line = {"epoch": epoch + 1, "loss": loss, "validation_loss": validation_loss, "validation_auc": area}
        history.append(line)
        if epoch == 0 and accelerator.is_main_process:
            run_folder.replace_run(config)
        with naming(out / "tensorboard"):
            if epoch == begun:
                accelerator.init_trackers("")
            accelerator.log({name: value for name, value in line.items() if value is not None}, step=epoch + 1)
        judged = _judged_network(training)
        if accelerator.is_main_process:
            run_folder.write_epoch(config, judged, films, history, out)
        run_folder.write_state(accelerator, origin, history, out)
        accelerator.print(f"{config.stage} {json.dumps(line)}", flush=True)
    with naming(out / "tensorboard"):
        accelerator.end_training()
    if accelerator.is_main_process:
        write_text(out / FINISHED, json.dumps(origin))
    accelerator.print(
        f"{config.stage}: best validation AUC {run_folder.best_auc(history)}, checkpoint in {out / 'checkpoint'}"
    )
    return history


def _judged_network(training: Training) -> nn.Module:
    """What was validated. Of sharded weights all processes take part, and the main process alone has it."""
    accelerator, average = training.accelerator, training.average
    judged: nn.Module = average.module if average else accelerator.unwrap_model(training.model)
    if not accelerator.is_fsdp2:
        return judged
    weights = whole_weights(judged)
    if training.whole is None:
        return judged
    training.whole.load_state_dict(weights)
    return training.whole


def _probe(
    config: TrainConfig,
    probe: ProbeConfig,
    accelerator: Accelerator,
    films: Films,
    pixels: NDArray[np.uint8],
    origin: run_folder.Origin,
) -> History:
    """A run whose only epoch is a head on a frozen backbone."""
    out = Path(config.out)
    if accelerator.is_main_process:
        network, line = fit_probe(config, probe, films, pixels, *_targets_of(config.stage, films))
        run_folder.replace_run(config)
        run_folder.write_epoch(config, network, films, [line], out)
        write_text(out / FINISHED, json.dumps(origin))
        print(f"{config.stage} {json.dumps(line)}", flush=True)
        print(f"{config.stage}: validation AUC {line['validation_auc']}, checkpoint in {out / 'checkpoint'}")
    accelerator.wait_for_everyone()
    return run_folder.read_history(out)


def _accelerator(config: TrainConfig) -> Accelerator:
    folder = Path(config.out) / "tensorboard"
    try:
        accelerator = Accelerator(
            mixed_precision=config.precision,
            log_with="tensorboard",
            project_dir=folder,
            kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
        )
    except ValueError as fault:
        raise DataError(f"precision '{config.precision}' cannot be had here: {fault}") from fault
    if config.optim.batch_size % accelerator.num_processes:
        raise DataError(
            f"optim.batch_size is {config.optim.batch_size}, no multiple of the {accelerator.num_processes} processes"
        )
    if config.compile and accelerator.is_fsdp2:
        raise DataError("compile is not for weights in shards (FSDP): set it to false, or launch with whole ones")
    if config.compile and accelerator.device.type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        raise DataError("compile wants a C++ compiler on a CPU: g++, or the one that CXX names")
    return accelerator


def checked_films(config: TrainConfig) -> Films:
    """The configuration's films, before any is decoded; raises DataError where this stage cannot be trained on them."""
    films = configured_films(config.data)
    require_outcomes(films, config.stage)
    return films


def prepare(config: TrainConfig, accelerator: Accelerator, films: Films, pixels: NDArray[np.uint8]) -> Training:
    """The run before its first epoch. ``pixels`` [N, S, S] uint8 are those of ``films``, row for row."""
    optim = config.optim
    targets, network = _network_of(config, films)
    rows, validated = (labelled_rows(targets, films.rows(split)) for split in ("train", "validation"))
    if config.compile:
        network.compile()  # in place: the weights keep their names
    sampler = EpochSampler(balancing_weights(targets[rows]), optim.films_per_epoch, config.seed)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(optim.ema)) if optim.ema is not None else None
    whole = deepcopy(network) if accelerator.is_fsdp2 and accelerator.is_main_process else None
    if accelerator.is_fsdp2:
        gather_by_block(accelerator, network)
    shares = Shares(sampler, optim.batch_size, accelerator.num_processes, accelerator.process_index)
    model, optimizer, validation = accelerator.prepare(
        network,
        make_optimizer(network, optim),
        validation_loader(CachedFilms(pixels, targets, validated), optim.batch_size // accelerator.num_processes),
    )
    # Not shared out by accelerate, which gives films twice where they do not fill the last batch.
    batches = prepare_data_loader(
        training_loader(CachedFilms(pixels, targets, rows), shares),
        accelerator.device,
        num_processes=1,
        process_index=0,
        put_on_device=True,
    )
    steps = len(batches) * optim.epochs
    # Not prepared: accelerate would advance a prepared schedule once per process at each step.
    schedule = get_scheduler(optim.schedule, optimizer, int(optim.warmup * steps), steps)
    accelerator.register_for_checkpointing(schedule)
    if average:
        kept = ShardedAverage(accelerator, average) if accelerator.is_fsdp2 else average.to(accelerator.device)
        accelerator.register_for_checkpointing(kept)
    loss = make_loss(optim, positive_weights(targets[rows]).to(accelerator.device))
    return Training(config, accelerator, model, average, whole, optimizer, schedule, shares, batches, validation, loss)


def _network_of(config: TrainConfig, films: Films) -> tuple[NDArray[np.int8], nn.Module]:
    """The stage's targets [N, L] and the network that predicts them."""
    targets, labels = _targets_of(config.stage, films)
    if config.stage == "joint":
        return targets, JointVit(config.model, config.start)
    if config.start:
        return targets, load_checkpoint(
            run_folder.checkpoint_of(Path(config.start), config.stage), config.model, labels
        )
    return targets, build_model(config.model, labels)


def _targets_of(stage: Stage, films: Films) -> tuple[NDArray[np.int8], list[str]]:
    """The stage's targets [N, L], and their names."""
    match stage:
        case "binary":
            return films.findings, [FINDING]
        case "disease" | "single":
            return films.diseases, list(FINDINGS)
        case "joint":
            return np.hstack([films.findings, films.diseases]), [FINDING, *FINDINGS]


def train_epoch(training: Training, epoch: int) -> float:
    """One pass over the training films; its mean loss.

    Raises:
        NonFiniteLoss: the loss is no number any more.
    """
    config, accelerator, batches = training.config, training.accelerator, training.batches
    training.model.train()
    total = torch.zeros((), device=accelerator.device)
    title = f"{config.stage} epoch {epoch + 1}/{config.optim.epochs}"
    hidden = None if accelerator.is_main_process else True  # None: shown where a person watches
    for step, (films, targets) in enumerate(tqdm(batches, title, unit="batch", disable=hidden), start=1):
        inputs = model_inputs(augment(films.float() / 255.0, config.augment), config.model)
        with accelerator.autocast():
            logits = training.model(inputs)
        # Gradients are averaged over processes, whose shares of the last batch may differ by a film.
        part = len(films) * accelerator.num_processes / training.shares.films(step - 1)
        loss = training.loss(logits.float(), targets) * part
        accelerator.backward(loss)
        if config.optim.clip is not None:
            accelerator.clip_grad_norm_(training.model.parameters(), config.optim.clip)
        training.optimizer.step()
        training.schedule.step()
        training.optimizer.zero_grad()
        if training.average is not None:
            training.average.update_parameters(accelerator.unwrap_model(training.model))
        total += loss.detach()
        if (step % CHECK_EVERY == 0 or step == len(batches)) and not torch.isfinite(total):
            raise NonFiniteLoss(
                f"{config.stage}, epoch {epoch + 1}: the loss became {total.item()} by step {step}. Lower optim.lr "
                f"(now {config.optim.lr}), or set precision to 'no' (now '{config.precision}')"
            )
    return float(accelerator.reduce(total / len(batches), reduction="mean"))


@torch.no_grad()
def _validate(training: Training) -> tuple[NDArray[np.float32], NDArray[np.int8], float]:
    """Validation's scores [N, L], targets [N, L] and mean loss."""
    accelerator, judged = training.accelerator, training.average or training.model
    judged.eval()
    gathered = []
    for films, targets in training.validation:
        with accelerator.autocast():
            outputs = judged(model_inputs(films.float() / 255.0, training.config.model))
        gathered.append(accelerator.gather_for_metrics((outputs.float(), targets)))
    logits, truth = map(torch.cat, zip(*gathered, strict=True))
    loss = float(training.loss(logits, truth))
    return torch.sigmoid(logits).cpu().numpy(), truth.cpu().numpy().astype(np.int8), loss


if __name__ == "__main__":
    command_line.run(main)
