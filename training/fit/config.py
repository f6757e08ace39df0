"""The training configuration: typed, read from YAML, overridden on the command line, unknown keys refused."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser

from workflows.files.atomic import write_text

Stage = Literal["binary", "disease", "joint", "single"]
"""The two stages alone; both together on a shared loss; or one flat 14-label model to compare the cascade with."""


@dataclass
class DataConfig:
    """Where the films are and how they are split.

    Args:
        folder: data folder in NIH's layout.
        validation: fraction of the training patients kept for validation.
        split_seed: seed of the splits.
        skip_unreadable: go on without films whose file is missing or cannot be read.
        cache: folder of the decoded films.
    """

    folder: str = "data/sample"
    validation: float = 0.1
    split_seed: int = 0
    skip_unreadable: bool = False
    cache: str = "cache"


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
        backbone: a hub name or a local checkpoint folder; not read where ``sizes`` is given.
        sizes: build the ViT from nothing, with these sizes.
        image_size: side in pixels of the square that the model sees.
        dropout: before the linear head.
        drop_path: stochastic depth of the last block, rising linearly from 0 in the first (Huang et al., 2016).
        mean: per channel, of pixels in [0, 1].
        std: per channel, of pixels in [0, 1].
    """

    backbone: str = "google/vit-base-patch16-224"
    sizes: SizesConfig | None = None
    image_size: int = 224
    dropout: float = 0.1
    drop_path: float = 0.0
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])


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

    crop: float = 1.0
    flip: float = 0.5
    rotation: float = 10.0
    brightness: float = 0.2
    contrast: float = 0.2


@dataclass
class OptimConfig:
    """Optimisation.

    Args:
        lr: AdamW's peak learning rate.
        weight_decay: AdamW's.
        batch_size: films per step, over all processes.
        epochs: passes, each of ``films_per_epoch`` films.
        warmup: fraction of all steps with a rising learning rate.
        schedule: of the learning rate after that: a cosine or a line to zero, or none.
        films_per_epoch: balanced draw with replacement of this many films; null takes every film once.
        class_weights: weigh positives by negatives / positives in the loss.
        loss: binary cross-entropy, or the asymmetric loss of Ridnik et al. (2021).
        layer_decay: a block's learning rate over the next one's; 1 gives all the same (Clark et al., 2020).
        ema: decay per step of the weights' moving average that is validated and saved; null for none.
        clip: largest gradient norm; null for no limit.
    """

    lr: float = 1e-4
    weight_decay: float = 1e-5
    batch_size: int = 128
    epochs: int = 5
    warmup: float = 0.0
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = "cosine"
    films_per_epoch: int | None = 12_000
    class_weights: bool = True
    loss: Literal["bce", "asymmetric"] = "bce"
    layer_decay: float = 1.0
    ema: float | None = None
    clip: float | None = None


@dataclass
class TrainConfig:
    """One stage's training run.

    Args:
        stage: which model, or both at once.
        out: folder of the run; a joint run leaves its two checkpoints in ``out/binary`` and ``out/disease``.
        start: folder with ``binary/checkpoint`` and ``disease/checkpoint`` that a joint run goes on from.
        seed: of initialisation, data order, augmentation and dropout.
        precision: mixed precision of the forward pass.
        compile: run the network through torch.compile, which wants a C++ compiler on a CPU.
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

    def resolved(self) -> dict[str, Any]:
        """Every key with its value, as plain data."""
        return asdict(self)


def parse_config(arguments: list[str] | None = None) -> tuple[TrainConfig, bool]:
    """``--config FILE.yaml --stage binary --out DIR --optim.lr 3e-4 ... [--resume]`` -> the configuration, resume.

    Exits with a message that names the key where a key is unknown or a value has the wrong type.
    """
    parser = ArgumentParser(prog="python -m training.train", description="Trains one stage of the cascade.")
    parser.add_argument("--config", action="config", help="a YAML file of training/configs")
    parser.add_argument("--resume", action="store_true", help="go on from the run's last finished epoch")
    parser.add_class_arguments(TrainConfig)
    chosen = vars(parser.instantiate(parser.parse_args(arguments)))
    resume = chosen.pop("resume")
    chosen.pop("config")
    return TrainConfig(**chosen), resume


def save_config(config: TrainConfig, path: Path) -> None:
    write_text(path, yaml.safe_dump(config.resolved(), sort_keys=False))
