"""A tiny checkpoint of every family that a stage can be built on, as its owner would hand it over."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

SIDE = 32
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 8}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50}
MAE = {f"decoder_{name}": value for name, value in TEXT.items() if name != "vocab_size"}
TIMM = {"img_size": SIDE, "patch_size": 8, "depth": 3, "embed_dim": 32, "num_heads": 2}

Maker = Callable[[], Any]


def _vision(name: str, **sizes: int) -> Any:
    return getattr(hf, f"{name}Config")(vision_config=SIZES | sizes, text_config=TEXT)


def _timm(**options: Any) -> Any:
    config = hf.TimmWrapperConfig(architecture="vit_tiny_patch16_224", model_args=TIMM | options, num_labels=5)
    return hf.TimmWrapperForImageClassification(config)


BACKBONES: dict[str, Maker] = {
    "ViT": lambda: hf.ViTForImageClassification(hf.ViTConfig(**SIZES, image_size=SIDE)),
    "ViT-MAE": lambda: hf.ViTMAEForPreTraining(hf.ViTMAEConfig(**SIZES, **MAE, image_size=SIDE)),
    "DeiT": lambda: hf.DeiTModel(hf.DeiTConfig(**SIZES, image_size=SIDE), add_pooling_layer=False),
    "DINOv2": lambda: hf.Dinov2Model(hf.Dinov2Config(**SIZES, mlp_ratio=2, image_size=SIDE)),
    "DINOv2 with registers": lambda: hf.Dinov2WithRegistersModel(
        hf.Dinov2WithRegistersConfig(**SIZES, mlp_ratio=2, image_size=SIDE, num_register_tokens=4)
    ),
    "DINOv3": lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**SIZES, image_size=SIDE, num_register_tokens=4)),
    "BEiT": lambda: hf.BeitModel(hf.BeitConfig(**SIZES, image_size=SIDE, use_relative_position_bias=True)),
    "CLIP": lambda: hf.CLIPModel(_vision("CLIP", image_size=SIDE)),
    "CLIP's vision tower": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**SIZES, image_size=SIDE)),
    "SigLIP": lambda: hf.SiglipModel(_vision("Siglip", image_size=SIDE)),
    "SigLIP2": lambda: hf.Siglip2Model(_vision("Siglip2", num_patches=16)),
    "timm": _timm,
    "timm with pooled patches": lambda: _timm(global_pool="avg"),
}


def write_backbone(name: str, folder: Path) -> Path:
    """Saves one, with weights that are drawn, not trained."""
    torch.manual_seed(0)
    BACKBONES[name]().save_pretrained(folder)
    return folder
