"""A stage's network as training begins with it: an encoder of any family, dropout and a new linear head."""

from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError
from torch import Tensor, nn
from torch.nn.functional import dropout
from torchvision.ops import StochasticDepth
from transformers import AutoConfig, AutoImageProcessor, ViTConfig, ViTForImageClassification, ViTImageProcessor

from handlers.networks.families import Family, UnknownFamily, family_of
from handlers.networks.network import Network, NotACheckpoint, encoder_of, load_network, save_network, width
from training.fit.config import IMAGENET_MEAN, IMAGENET_STD, ModelConfig, SizesConfig
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


def build_model(config: ModelConfig, labels: list[str]) -> Network:
    """[B, 3, S, S] normalised float32 -> logits [B, len(labels)].

    Raises:
        DataError: the backbone cannot be had, is of no family that works, lacks weights, or its patches do not divide
            the image size.
    """
    if config.sizes is None:
        family, encoder = _pretrained(config)
    else:
        family, encoder = family_of("vit"), ViTForImageClassification(_vit_config(config.sizes, config.image_size)).vit
    try:
        pool = config.pool or family.native_pool(encoder.config)
        earlier = (config.blocks or [])[:-1]
        head = DropoutLinear(width(family, encoder, pool, earlier), len(labels), config.dropout)
        nn.init.trunc_normal_(head.weight, std=getattr(encoder.config, "initializer_range", 0.02))
        nn.init.zeros_(head.bias)
        network = Network(family, encoder, pool, head, labels, earlier)
        _freeze_unused(network, config.image_size)
    except UnknownFamily as fault:
        raise DataError(f"model.backbone {config.backbone}: {fault}") from fault
    _set_drop_path(network, config.drop_path)
    return network


def load_checkpoint(folder: Path, config: ModelConfig, labels: list[str]) -> Network:
    """A trained stage, head included, to be trained further.

    Raises:
        DataError: it is another network than ``config``'s, dropout and stochastic depth apart, or of other labels.
    """
    trained, wanted = yaml.safe_load((folder / "training.yaml").read_text())["model"], asdict(config)
    for key in ("backbone", "sizes", "image_size", "blocks", "pool", "mean", "std"):
        if wanted[key] is not None and trained.get(key, wanted[key]) != wanted[key]:
            raise DataError(f"{folder} was trained with model.{key} {trained[key]}, not with {wanted[key]}")
    try:
        network = load_network(folder)
    except (NotACheckpoint, UnknownFamily) as fault:
        raise DataError(str(fault)) from fault
    if network.labels != labels:
        raise DataError(f"{folder} has a head of {len(network.labels)} labels, {len(labels)} are to be trained")
    head = network.head
    network.head = DropoutLinear(head.in_features, head.out_features, config.dropout)
    network.head.load_state_dict(head.state_dict())
    _freeze_unused(network, config.image_size)
    _set_drop_path(network, config.drop_path)
    return network


def save_checkpoint(network: Network, config: ModelConfig, folder: Path) -> None:
    """Weights (safetensors), configuration and preprocessing, in the transformers format."""
    config = with_statistics(config)
    save_network(network, folder)
    side = {"height": config.image_size, "width": config.image_size}
    ViTImageProcessor(size=side, image_mean=config.mean, image_std=config.std, resample=2).save_pretrained(folder)


def with_statistics(config: ModelConfig) -> ModelConfig:
    """``config`` with a mean and a standard deviation, where it names none: the backbone's own, or ImageNet's."""
    mean, std = list(IMAGENET_MEAN), list(IMAGENET_STD)
    if config.sizes is None and None in (config.mean, config.std):
        with suppress(OSError, ValueError, AttributeError):  # it has no preprocessor_config.json
            own = AutoImageProcessor.from_pretrained(config.backbone)
            mean, std = list(own.image_mean), list(own.image_std)
    return replace(config, mean=config.mean or mean, std=config.std or std)


def _set_drop_path(network: Network, last: float) -> None:
    """Stochastic depth (Huang et al., 2016), rising linearly from 0 in the first block to ``last`` in the last one."""
    blocks, family = network.blocks, network.family
    for depth, block in enumerate(blocks):
        probability = last * depth / max(len(blocks) - 1, 1)
        for name in family.drop_path:
            setattr(block, name, StochasticDepth(probability, mode="row"))
        for name in family.branches:
            branch = block.get_submodule(name)
            branch.stochastic_depth = StochasticDepth(probability, mode="row")
            branch.register_forward_hook(_drop_branch)


def _drop_branch(branch: Any, _: Any, output: Any) -> Any:
    if isinstance(output, tuple):  # of an attention: its output and its weights
        return branch.stochastic_depth(output[0]), *output[1:]
    return branch.stochastic_depth(output)


def _freeze_unused(network: Network, side: int) -> None:
    """Parameters that no film passes through, mask tokens for instance, get no gradient: several processes would wait
    for theirs, and weight decay would shrink them."""
    if network.head.weight.is_meta:
        return
    parameters = list(network.parameters())
    logits = network.eval()(torch.zeros(1, 3, side, side))
    network.train()
    gradients = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def _vit_config(sizes: SizesConfig, image_size: int) -> ViTConfig:
    return ViTConfig(
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.mlp,
        patch_size=sizes.patch,
        image_size=image_size,
    )


def _pretrained(config: ModelConfig) -> tuple[Family, Any]:
    """The backbone's encoder, of films of the configuration's size.

    Raises:
        DataError: as ``build_model``.
    """
    name, side = config.backbone, config.image_size
    try:
        whole = AutoConfig.from_pretrained(name)
        family = family_of(whole.model_type)
        encoder = encoder_of(family, name, family.encoder_config(whole), name)
        patch = family.patch(encoder)
        if side % patch:
            raise DataError(f"model.image_size is {side}, no multiple of the patch of {name}, {patch}")
        if config.blocks is not None:
            if config.blocks[-1] > (there := len(encoder.get_submodule(family.blocks))):
                raise DataError(f"model.blocks is {config.blocks}, {name} has {there}")
            family.cut(encoder, config.blocks[-1])
        native = encoder.config.image_size if hasattr(encoder.config, "image_size") else None
        if native != side:
            family.resize(encoder, side)
    except (UnknownFamily, NotACheckpoint) as fault:
        raise DataError(f"model.backbone {name}: {fault}") from fault
    except (OSError, ValueError) as fault:
        raise DataError(_unavailable(name, fault)) from fault
    except ImportError as fault:
        raise DataError(f"model.backbone {name} wants a package that is not installed: {fault}") from fault
    except AttributeError as fault:
        raise DataError(f"model.backbone {name} has no list of transformer blocks, it is no ViT: {fault}") from fault
    return family, encoder


def _unavailable(name: str, fault: Exception) -> str:
    """Why a backbone cannot be had, and what to do."""
    if Path(name).is_dir():
        return f"model.backbone {name} is a folder, but no checkpoint of transformers: {fault}"
    if isinstance(fault.__cause__, GatedRepoError):
        why = "it is gated: ask for access on its page, and log in with 'hf auth login'"
    elif isinstance(fault.__cause__, HfHubHTTPError):
        why = "the hub has no model of that name"
    else:
        why = f"there is no such folder, and the hub does not give it ({str(fault).splitlines()[0]})"
    return f"model.backbone {name} cannot be had: {why}. A local folder with its config.json and weights works, too"
