"""``ViTForImageClassification`` with dropout before its linear head."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import dropout
from torchvision.ops import StochasticDepth
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

from training.fit.config import ModelConfig, SizesConfig
from workflows.files.text_files import DataError


class DropoutLinear(nn.Linear):
    """Dropout and a linear layer under a linear layer's parameter names, so that checkpoints load without us.

    In evaluation it computes in float32 under mixed precision, too, as ``handlers.networks.vit`` does: logits in half
    precision tie.
    """

    def __init__(self, inputs: int, outputs: int, probability: float) -> None:
        super().__init__(inputs, outputs)
        self.probability = probability

    def forward(self, tokens: Tensor) -> Tensor:
        if self.training:
            return super().forward(dropout(tokens, self.probability))
        with torch.autocast(tokens.device.type, enabled=False):
            return super().forward(tokens.float())


def build_model(config: ModelConfig, labels: list[str]) -> Any:
    """[B, 3, S, S] normalised float32 -> logits [B, len(labels)].

    Raises:
        DataError: the backbone's weights do not fit a ViT, or its patches the image size.
        OSError: the backbone is neither a folder nor a name that the hub knows.
    """
    if config.sizes is None:
        model = _pretrained(config)
    else:
        model = ViTForImageClassification(_vit_config(config.sizes, config.image_size))
    width = model.config.hidden_size
    model.classifier = DropoutLinear(width, len(labels), config.dropout)
    nn.init.trunc_normal_(model.classifier.weight, std=model.config.initializer_range)
    nn.init.zeros_(model.classifier.bias)
    _set_drop_path(model, config.drop_path)
    model.num_labels = model.config.num_labels = len(labels)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}
    return model


def load_checkpoint(folder: Path, config: ModelConfig) -> Any:
    """A trained stage, head included, to be trained further.

    Raises:
        DataError: it is another network than ``config``'s, dropout and stochastic depth apart.
    """
    trained, wanted = yaml.safe_load((folder / "training.yaml").read_text())["model"], asdict(config)
    for key in ("backbone", "sizes", "image_size", "mean", "std"):
        if trained[key] != wanted[key]:
            raise DataError(f"{folder} was trained with model.{key} {trained[key]}, not with {wanted[key]}")
    model: Any = ViTForImageClassification.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    head = model.classifier
    model.classifier = DropoutLinear(head.in_features, head.out_features, config.dropout)
    model.classifier.load_state_dict(head.state_dict())
    _set_drop_path(model, config.drop_path)
    return model


def save_checkpoint(model: Any, config: ModelConfig, folder: Path) -> None:
    """Weights (safetensors), configuration and preprocessing, in the transformers format."""
    model.save_pretrained(folder)
    side = {"height": config.image_size, "width": config.image_size}
    ViTImageProcessor(size=side, image_mean=config.mean, image_std=config.std, resample=2).save_pretrained(folder)


def _set_drop_path(model: Any, last: float) -> None:
    layers = model.vit.layers
    for depth, layer in enumerate(layers):
        # A block applies its dropout to both branches just before it adds them, which is where stochastic depth acts.
        layer.dropout = StochasticDepth(last * depth / max(len(layers) - 1, 1), mode="row")


def _vit_config(sizes: SizesConfig, image_size: int) -> ViTConfig:
    return ViTConfig(
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.mlp,
        patch_size=sizes.patch,
        image_size=image_size,
    )


def _pretrained(config: ModelConfig) -> Any:
    model: Any
    loading: dict[str, list[str]]
    model, loading = ViTForImageClassification.from_pretrained(  # type: ignore[misc]
        config.backbone, dtype=torch.float32, output_loading_info=True
    )
    missing = [name for name in loading["missing_keys"] if not name.startswith("classifier.")]
    if missing:
        raise DataError(f"{config.backbone} is not a ViT checkpoint: {len(missing)} weights missing, {missing[:3]} …")
    if config.image_size % model.config.patch_size:
        raise DataError(
            f"model.image_size is {config.image_size}, no multiple of the patch of {config.backbone}, "
            f"{model.config.patch_size}"
        )
    if model.config.image_size != config.image_size:
        _resize_positions(model, config.image_size)
    return model


def _resize_positions(model: Any, image_size: int) -> None:
    """Bicubic interpolation of the position embeddings (Dosovitskiy et al., ICLR 2021, section 3.2)."""
    embeddings = model.vit.embeddings
    patches = (image_size // model.config.patch_size) ** 2
    blank = torch.zeros(1, patches + 1, model.config.hidden_size)
    resized = embeddings.interpolate_pos_encoding(blank, image_size, image_size).detach()
    embeddings.position_embeddings = nn.Parameter(resized.clone())
    embeddings.image_size = embeddings.patch_embeddings.image_size = (image_size, image_size)
    embeddings.patch_embeddings.num_patches = patches
    model.config.image_size = image_size
