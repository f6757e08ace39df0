"""The training configuration: typed, read from YAML, overridden on the command line; what cannot be meant is refused.

The defaults are our recipe for fine-tuning a pretrained ViT: every film once an epoch under plain binary cross-entropy,
warm-up, layer-wise learning-rate decay, stochastic depth, random square crops, no flip, a moving average of the
weights.
"""

from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser

from handlers.networks.families import Pool
from training.data.layouts.source import Layout, Uncertain
from workflows.command_line import Fault
from workflows.files.atomic import write_text

Stage = Literal["binary", "disease", "joint", "single"]
"""The two stages alone; both together on a shared loss; or one flat 14-label model to compare the cascade with."""
BACKBONE = "google/vit-base-patch16-224"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SEEDS = "[0, 2147483648)"


class ConfigError(Fault, ValueError):
    """A configuration that cannot be meant; the message names the key."""

    exit_code = 2


@dataclass
class DataConfig:
    """Where the films are and how they are split.

    Args:
        folder: data folder, in a layout of training/DATA.md.
        layout: nih, chexpert, mimic, vindr, padchest or csv; null recognises it by what lies in the folder.
        uncertain: what a label -1 is taken for; ignore leaves that finding of that film out, as if not labelled.
        validation: fraction of the training patients kept for validation.
        split_seed: seed of the splits.
        skip_unreadable: go on without films whose file is missing or cannot be read.
        cache: folder of the decoded films.
    """

    folder: str = "data/sample"
    layout: Layout | None = None
    uncertain: Uncertain = "ignore"
    validation: float = 0.1
    split_seed: int = 0
    skip_unreadable: bool = False
    cache: str = "cache"

    def __post_init__(self) -> None:
        _require("data", self, validation="(0, 1)", split_seed=SEEDS)


@dataclass
class SizesConfig:
    """A ViT from nothing.

    Args:
        hidden: width of a token.
        layers: number of blocks.
        heads: attention heads per block.
        mlp: width inside a block's MLP.
        patch: side of a patch in pixels.
    """

    hidden: int
    layers: int
    heads: int
    mlp: int
    patch: int


@dataclass
class ModelConfig:
    """The network.

    Args:
        backbone: a hub name or a local checkpoint folder, of any family of ``handlers.networks.families``; not read
            where ``sizes`` is given.
        sizes: build the ViT from nothing, with these sizes.
        image_size: side in pixels of the square that the model sees, a multiple of its patch.
        blocks: numbers, from 1, of the backbone's blocks whose tokens the head sees, side by side, each under the
            backbone's last norm; what comes after the last of them is cut off. null for the very last.
        pool: what the head sees: the class token, the patches' mean, or both; null for what the family's own head sees.
        dropout: before the linear head.
        drop_path: stochastic depth of the last block, rising linearly from 0 in the first (Huang et al., 2016).
        mean: per channel, of pixels in [0, 1]; null for the backbone's own, or ImageNet's.
        std: likewise.
    """

    backbone: str = BACKBONE
    sizes: SizesConfig | None = None
    image_size: int = 224
    blocks: list[int] | None = None
    pool: Pool | None = None
    dropout: float = 0.1
    drop_path: float = 0.1
    mean: list[float] | None = None
    std: list[float] | None = None

    def __post_init__(self) -> None:
        _require("model", self, image_size="[1, inf)", dropout="[0, 1)", drop_path="[0, 1)")
        if self.sizes:
            self.mean, self.std = self.mean or list(IMAGENET_MEAN), self.std or list(IMAGENET_STD)
            _require("model.sizes", self.sizes, **dict.fromkeys(asdict(self.sizes), "[1, inf)"))
            for what, number, of, by in (
                ("model.image_size", self.image_size, "patch", self.sizes.patch),
                ("model.sizes.hidden", self.sizes.hidden, "heads", self.sizes.heads),
            ):
                if number % by:
                    raise ConfigError(f"{what} is {number}, no multiple of model.sizes.{of}, {by}")
        if self.sizes and self.blocks:
            raise ConfigError("model.blocks is for a backbone, model.sizes.layers builds so many: give one of them")
        if self.blocks is not None and (not self.blocks or self.blocks != sorted({*self.blocks} - {0})):
            raise ConfigError(f"model.blocks is {self.blocks}, not numbers from 1 in rising order")
        if self.sizes and self.backbone != BACKBONE:
            raise ConfigError(f"model.sizes builds a ViT from nothing, model.backbone names {self.backbone}: give one")
        for name, values, fits in (
            ("mean", self.mean, all(0 <= value <= 1 for value in self.mean or [])),
            ("std", self.std, all(0 < value <= 1 for value in self.std or [])),
        ):
            if values is not None and (len(values) != 3 or not fits):
                raise ConfigError(f"model.{name} is {values}, not one number a channel of pixels in [0, 1]")


@dataclass
class AugmentConfig:
    """Random changes of a training film.

    Args:
        crop: smallest area of a random square crop, as a share of the film; 1 does not crop.
        flip: probability of a horizontal flip, which moves the heart to the right.
        rotation: largest angle in degrees, either way.
        brightness: factor drawn from 1 - b to 1 + b.
        contrast: factor drawn from 1 - c to 1 + c.
    """

    crop: float = 0.7
    flip: float = 0.0
    rotation: float = 10.0
    brightness: float = 0.2
    contrast: float = 0.2

    def __post_init__(self) -> None:
        shares = dict.fromkeys(("flip", "brightness", "contrast"), "[0, 1]")
        _require("augment", self, crop="(0, 1]", rotation="[0, 180]", **shares)


@dataclass
class OptimConfig:
    """Optimisation.

    Args:
        lr: AdamW's peak learning rate.
        weight_decay: AdamW's, of the weights that multiply tokens and pixels alone.
        batch_size: films per step, over all processes.
        epochs: passes, each of ``films_per_epoch`` films.
        warmup: fraction of all steps with a rising learning rate.
        schedule: of the learning rate after that: a cosine or a line to zero, or none.
        films_per_epoch: balanced draw with replacement of this many films; null takes every film once.
        class_weights: weigh positives by negatives / positives in binary cross-entropy.
        loss: binary cross-entropy, or the asymmetric loss of Ridnik et al. (2021).
        layer_decay: a block's learning rate over the next one's; 1 gives all the same (Clark et al., 2020).
        ema: decay per step of the weights' moving average that is validated and saved; null for none.
        clip: largest gradient norm; null for no limit.
    """

    lr: float = 5e-4
    weight_decay: float = 0.05
    batch_size: int = 64
    epochs: int = 5
    warmup: float = 0.1
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    films_per_epoch: int | None = None
    class_weights: bool = False
    loss: Literal["bce", "asymmetric"] = "bce"
    layer_decay: float = 0.75
    ema: float | None = 0.995
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        _require("optim", self, **dict.fromkeys(("lr", "clip"), "(0, inf)"), weight_decay="[0, inf)")
        _require("optim", self, **dict.fromkeys(("batch_size", "epochs", "films_per_epoch"), "[1, inf)"))
        _require("optim", self, warmup="[0, 1)", layer_decay="(0, 1]", ema="(0, 1)")
        if self.loss == "asymmetric" and self.class_weights:
            raise ConfigError(
                "optim.loss 'asymmetric' has weights of its own, optim.class_weights is true: set one of the two back"
            )


@dataclass
class ProbeConfig:
    """A linear probe: the backbone is frozen, scikit-learn fits the head on its features.

    Args:
        c: inverse strengths of the L2 penalty that are tried; each label takes the best one on validation patients.
        flip: a film's mirror image counts as a training film, too.
    """

    c: list[float] = field(default_factory=lambda: [1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    flip: bool = False

    def __post_init__(self) -> None:
        if not self.c or min(self.c) <= 0:
            raise ConfigError(f"probe.c is {self.c}, not some numbers above 0")


@dataclass
class TrainConfig:
    """One stage's training run.

    Args:
        stage: which model, or both at once.
        out: folder of the run; a joint run leaves its two checkpoints in ``out/binary`` and ``out/disease``.
        start: folder of a run whose checkpoint this stage goes on from, a probe's for instance (Kumar et al., ICLR
            2022): that of the stage, or one with ``binary`` and ``disease``, as a joint run wants it.
        seed: of initialisation, data order, augmentation and dropout.
        precision: mixed precision of the forward pass.
        compile: run the network through torch.compile, which wants a C++ compiler on a CPU.
        probe: train the head alone; ``augment``, ``optim``, ``compile`` and stochastic depth then count for nothing.
    """

    stage: Stage
    out: str
    start: str | None = None
    seed: int = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    probe: ProbeConfig | None = None

    def __post_init__(self) -> None:
        _require("", self, seed=SEEDS)
        if self.probe and (self.start is not None or self.stage == "joint"):
            raise ConfigError("probe fits a head of one stage on a frozen backbone: no start, and no stage 'joint'")
        if self.probe and self.model.sizes:
            raise ConfigError(
                "probe wants a trained backbone, model.sizes builds one from nothing: name model.backbone"
            )

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, as plain data."""
        return asdict(self)


def parse_config(
    arguments: Sequence[str] | None = None, prog: str = "python -m training.train"
) -> tuple[TrainConfig, bool, bool]:
    """``--config FILE.yaml --stage binary --out DIR --optim.lr 3e-4 ... [--resume | --force]`` -> the configuration,
    resume, force.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type or cannot be meant; it names the key.
    """
    parser = ArgumentParser(prog=prog, description="Trains one stage of the cascade.", exit_on_error=False)
    parser.add_argument("--config", action="config", help="a YAML file of training/configs")
    parser.add_argument("--resume", action="store_true", help="go on from the run's last finished epoch")
    parser.add_argument("--force", action="store_true", help="replace the run in --out, once the first epoch is done")
    parser.add_class_arguments(TrainConfig)
    try:
        chosen = vars(parser.instantiate(parser.parse_args(arguments)))
    except (ArgumentError, yaml.YAMLError) as fault:
        raise ConfigError(str(fault)) from fault
    del chosen["config"]
    resume, force = chosen.pop("resume"), chosen.pop("force")
    if resume and force:
        raise ConfigError("--resume goes on with a run, --force replaces it: give one of them")
    return TrainConfig(**chosen), resume, force


def save_config(config: TrainConfig, path: Path) -> None:
    write_text(path, yaml.safe_dump(config.resolved(), sort_keys=False))


def _require(section: str, settings: object, **intervals: str) -> None:
    """Raises ConfigError where a setting lies outside its interval, as ``[0, 1)`` is written; null lies nowhere."""
    for name, interval in intervals.items():
        value, (low, high) = getattr(settings, name), map(float, interval[1:-1].split(","))
        ends = {low: interval[0] == "[", high: interval[-1] == "]"}
        if value is not None and not (low <= value <= high and ends.get(value, True)):
            raise ConfigError(f"{section}{'.' if section else ''}{name} is {value}, not in {interval}")
