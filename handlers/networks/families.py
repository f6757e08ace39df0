"""The families of image encoders in transformers that a stage can be built on, and where each keeps a ViT's parts.

Nothing else knows one family from another: stochastic depth, layer-wise decay, positions, pooling, heatmaps and
checkpoints ask here.
"""

from typing import Any, ClassVar, Literal

import torch
import transformers
from torch import Tensor, nn

Pool = Literal["cls", "mean", "both"]
"""What the head sees: the class token, the mean of the patches' tokens, or the two side by side."""


class UnknownFamily(ValueError):
    """A model type that none of ``FAMILIES`` has; the message lists those that work."""


class Family:
    """What most families share; a subclass says what differs.

    Attributes:
        name: for messages.
        types: ``model_type`` in ``config.json``.
        encoder: transformers' class that turns pixels into tokens.
        opening: arguments of that class.
        classifier: transformers' classification class, whose parameter names checkpoints carry; None: there is none.
        prefix: of the encoder's parameters in that class.
        head: name of the linear layer in that class.
        pool: what that class's head sees, and what ours sees unless told.
        blocks: the encoder's list of blocks.
        last_norm: the encoder's norm after its last block; None where the tokens leave it as they are.
        top: first names of the encoder's parts above the blocks; what is neither there nor a block lies below them.
        norm: a block's norm before its attention.
        after_mixing: a block's modules that are the first to treat each token by itself: the one in which its attention
            ends, and the norm before its MLP. None are named where nobody has looked.
        drop_path: a block's modules through which both its branches pass just before they are added.
        branches: instead, the block's two branches themselves, where a family has no such module.
        float32_between: in bfloat16 (``handlers.networks.onednn``) its Linears must hand on float32, because it
            multiplies queries and keys, but not values, by float32 before attention.
    """

    name: ClassVar[str]
    types: ClassVar[tuple[str, ...]]
    encoder: ClassVar[str]
    opening: ClassVar[dict[str, Any]] = {}
    classifier: ClassVar[str | None] = None
    prefix: ClassVar[str] = ""
    head: ClassVar[str] = "classifier"
    pool: ClassVar[Pool] = "cls"
    blocks: ClassVar[str] = "layers"
    last_norm: ClassVar[str | None] = "layernorm"
    top: ClassVar[tuple[str, ...]] = ("layernorm", "pooler")
    norm: ClassVar[str] = "layernorm_before"
    after_mixing: ClassVar[tuple[str, ...]] = ()
    drop_path: ClassVar[tuple[str, ...]] = ("dropout",)
    branches: ClassVar[tuple[str, ...]] = ()
    float32_between: ClassVar[bool] = False

    def encoder_config(self, config: Any) -> Any:
        """The encoder's part of what ``config.json`` holds."""
        return config

    def file_config(self, config: Any) -> Any:
        """What ``config.json`` holds for an encoder's configuration: that of the classification class."""
        return config

    def native_pool(self, config: Any) -> Pool:
        """What the head of the classification class sees, for an encoder's configuration."""
        return self.pool

    def before_patches(self, encoder: Any) -> int:
        """How many tokens stand before those of the patches."""
        return 1

    def tokens(self, encoder: Any, inputs: Tensor) -> Tensor:
        """[B, 3, S, S] -> the last block's tokens after the encoder's own norm, [B, T, H]."""
        return encoder(pixel_values=inputs).last_hidden_state

    def normed(self, encoder: Any, tokens: Tensor) -> Tensor:
        """[B, T, H] as they leave an earlier block -> under the encoder's last norm."""
        return tokens if self.last_norm is None else encoder.get_submodule(self.last_norm)(tokens)

    def class_vector(self, encoder: Any, tokens: Tensor) -> Tensor:
        """[B, T, H] -> [B, H]: the class token, or what a family without one pools its tokens to."""
        return tokens[:, 0]

    def patch_mean(self, encoder: Any, tokens: Tensor) -> Tensor:
        """[B, T, H] -> [B, H]: the mean of the patches' tokens."""
        return tokens[:, self.before_patches(encoder) :].mean(dim=1)

    def patch(self, encoder: Any) -> int:
        """Side of a patch in pixels."""
        return int(encoder.config.patch_size)

    def width(self, encoder: Any) -> int:
        """Numbers in a token."""
        return int(encoder.config.hidden_size)

    def cut(self, encoder: Any, blocks: int) -> None:
        """Leaves the encoder its first blocks; its last norm stays."""
        encoder.set_submodule(self.blocks, encoder.get_submodule(self.blocks)[:blocks])
        config = encoder.config
        config.num_hidden_layers = blocks
        if stages := getattr(config, "stage_names", None):  # of a family that transformers also uses under detectors
            config.stage_names = stages[: blocks + 1]
            config.set_output_features_output_indices(out_features=None, out_indices=None)

    def resize(self, encoder: Any, side: int) -> None:
        """Makes the encoder one of films of ``side`` px: position embeddings are interpolated (bicubic; Dosovitskiy et
        al., ICLR 2021, section 3.2) once and for all."""
        embeddings, patches = encoder.embeddings, (side // self.patch(encoder)) ** 2
        if getattr(embeddings, "position_embeddings", None) is not None:
            before = embeddings.position_embeddings.shape[1] - embeddings.patch_embeddings.num_patches
            # DINOv2's registers are put in after positions have been added; ``before`` does not count them.
            blank = torch.zeros(1, before + patches, self.width(encoder))
            resized = embeddings.interpolate_pos_encoding(blank, side, side).detach()
            embeddings.position_embeddings = nn.Parameter(resized.clone())
        embeddings.image_size = embeddings.patch_embeddings.image_size = (side, side)
        embeddings.patch_embeddings.num_patches = patches
        encoder.config.image_size = side


class Vit(Family):
    name, types, encoder = "ViT", ("vit", "vit_mae"), "ViTModel"
    opening: ClassVar = {"add_pooling_layer": False}
    classifier, prefix = "ViTForImageClassification", "vit."
    after_mixing = ("attention.o_proj", "layernorm_after")

    def encoder_config(self, config: Any) -> Any:
        if config.model_type == "vit":
            return config
        # MAE's encoder without its masking is a plain ViT of the same parameters (He et al., CVPR 2022).
        known = transformers.ViTConfig().to_dict()
        shared = {key: value for key, value in config.to_dict().items() if key in known and key != "model_type"}
        return transformers.ViTConfig(**shared)


class Deit(Family):
    name, types, encoder = "DeiT", ("deit",), "DeiTModel"
    opening: ClassVar = {"add_pooling_layer": False}
    classifier, prefix = "DeiTForImageClassification", "deit."
    after_mixing = ("attention.o_proj", "layernorm_after")

    def before_patches(self, encoder: Any) -> int:
        return 2  # the class token, and the distillation token


class Dinov2(Family):
    name, types, encoder = "DINOv2", ("dinov2",), "Dinov2Model"
    classifier, prefix, pool = "Dinov2ForImageClassification", "dinov2.", "both"
    blocks, norm, top, drop_path = "encoder.layer", "norm1", ("layernorm",), ("drop_path",)
    after_mixing = ("attention.o_proj", "norm2")


class Dinov2WithRegisters(Dinov2):
    name, types, encoder = "DINOv2 with registers", ("dinov2_with_registers",), "Dinov2WithRegistersModel"
    classifier, prefix = "Dinov2WithRegistersForImageClassification", "dinov2_with_registers."

    def before_patches(self, encoder: Any) -> int:
        return 1 + int(encoder.config.num_register_tokens)


class Dinov3(Family):
    name, types, encoder = "DINOv3 ViT", ("dinov3_vit",), "DINOv3ViTModel"
    pool, blocks, norm, drop_path = "both", "model.layer", "norm1", ("drop_path",)
    last_norm, top, float32_between = "norm", ("norm",), True

    def before_patches(self, encoder: Any) -> int:
        return 1 + int(encoder.config.num_register_tokens)

    def resize(self, encoder: Any, side: int) -> None:
        encoder.config.image_size = side  # its positions are rotations by the patches' coordinates


class Beit(Family):
    name, types, encoder = "BEiT", ("beit",), "BeitModel"
    classifier, prefix, drop_path = "BeitForImageClassification", "beit.", ("drop_path",)

    def native_pool(self, config: Any) -> Pool:
        return "mean" if config.use_mean_pooling else "cls"

    def tokens(self, encoder: Any, inputs: Tensor) -> Tensor:
        return encoder(pixel_values=inputs, interpolate_pos_encoding=True).last_hidden_state

    def patch_mean(self, encoder: Any, tokens: Tensor) -> Tensor:
        mean = super().patch_mean(encoder, tokens)
        return mean if encoder.pooler.layernorm is None else encoder.pooler.layernorm(mean)

    def resize(self, encoder: Any, side: int) -> None:
        """The tables of relative positions keep their size: BEiT interpolates them in each pass."""
        if encoder.embeddings.position_embeddings is not None:
            raise UnknownFamily("a BEiT with absolute position embeddings is read at its own image size alone")


class Clip(Family):
    name, types, encoder = "CLIP", ("clip", "clip_vision_model"), "CLIPVisionModel"
    classifier, prefix, pool = "CLIPForImageClassification", "vision_model.", "mean"
    blocks, norm, drop_path, branches = "encoder.layers", "layer_norm1", (), ("self_attn", "mlp")
    last_norm: ClassVar[str | None] = None
    top: ClassVar[tuple[str, ...]] = ("post_layernorm",)
    whole: ClassVar[str] = "CLIPConfig"

    def encoder_config(self, config: Any) -> Any:
        return getattr(config, "vision_config", config)

    def file_config(self, config: Any) -> Any:
        return getattr(transformers, self.whole)(vision_config=config.to_dict())

    def class_vector(self, encoder: Any, tokens: Tensor) -> Tensor:
        return encoder.post_layernorm(tokens[:, 0])  # CLIP norms the class token alone

    def resize(self, encoder: Any, side: int) -> None:
        embeddings, patches = encoder.embeddings, (side // self.patch(encoder)) ** 2
        positions = self.before_patches(encoder) + patches
        blank = torch.zeros(1, positions, self.width(encoder))
        resized = embeddings.interpolate_pos_encoding(blank, side, side).detach()[0]
        embeddings.position_embedding = nn.Embedding.from_pretrained(resized.clone(), freeze=False)
        embeddings.position_ids = torch.arange(positions).expand((1, -1))
        embeddings.image_size, embeddings.num_patches, embeddings.num_positions = side, patches, positions
        encoder.config.image_size = side


class Siglip(Clip):
    name, types, encoder = "SigLIP", ("siglip", "siglip_vision_model"), "SiglipVisionModel"
    classifier, whole = "SiglipForImageClassification", "SiglipConfig"
    last_norm, top = "post_layernorm", ("post_layernorm", "head")

    def before_patches(self, encoder: Any) -> int:
        return 0

    def class_vector(self, encoder: Any, tokens: Tensor) -> Tensor:
        return encoder.head(tokens)  # no class token: a learned query looks at all of them


class Siglip2(Siglip):
    """Siglip2 as it takes films of any shape (NaFlex): patches are cut outside, positions interpolated inside."""

    name, types, encoder = "SigLIP2", ("siglip2", "siglip2_vision_model"), "Siglip2VisionModel"
    classifier, whole = "Siglip2ForImageClassification", "Siglip2Config"

    def tokens(self, encoder: Any, inputs: Tensor) -> Tensor:
        patch, batch = self.patch(encoder), len(inputs)
        rows = inputs.shape[2] // patch
        cut = inputs.unflatten(3, (rows, patch)).unflatten(2, (rows, patch))  # [B, 3, rows, P, columns, P]
        patches = cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * rows, -1)
        mask = torch.ones(batch, rows * rows, dtype=torch.int32, device=inputs.device)
        shapes = torch.tensor([[rows, rows]] * batch, device=inputs.device)
        return encoder(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shapes).last_hidden_state

    def class_vector(self, encoder: Any, tokens: Tensor) -> Tensor:
        return encoder.head(tokens, torch.ones(tokens.shape[:2], dtype=torch.int32, device=tokens.device))

    def resize(self, encoder: Any, side: int) -> None:
        """Nothing to do: positions are interpolated in each pass."""


class Timm(Family):
    """timm's ViTs through ``TimmWrapper``. timm adds its norm to what it pooled or to the tokens, by the model."""

    name, types, encoder = "timm ViT", ("timm_wrapper",), "TimmWrapperModel"
    classifier, head = "TimmWrapperForImageClassification", "timm_model.head"
    blocks, norm, last_norm = "timm_model.blocks", "norm1", "timm_model.norm"
    top = ("timm_model.norm", "timm_model.fc_norm", "timm_model.attn_pool")
    drop_path, float32_between = ("drop_path1", "drop_path2"), True

    def native_pool(self, config: Any) -> Pool:
        import timm

        told = (config.model_args or {}).get("global_pool") or getattr(config, "global_pool", None)
        if told is None:
            with torch.device("meta"):
                told = timm.create_model(config.architecture, **(config.model_args or {})).global_pool
        return "mean" if told == "avg" else "cls"

    def before_patches(self, encoder: Any) -> int:
        return int(encoder.timm_model.num_prefix_tokens)

    def class_vector(self, encoder: Any, tokens: Tensor) -> Tensor:
        model = encoder.timm_model
        if getattr(model, "attn_pool", None) is not None:
            return model.forward_head(tokens, pre_logits=True)
        if not self.before_patches(encoder):
            raise UnknownFamily(f"{encoder.config.architecture} has no class token: set model.pool to mean")
        return model.fc_norm(tokens[:, 0])

    def patch_mean(self, encoder: Any, tokens: Tensor) -> Tensor:
        return encoder.timm_model.fc_norm(super().patch_mean(encoder, tokens))

    def patch(self, encoder: Any) -> int:
        return int(encoder.timm_model.patch_embed.patch_size[0])

    def width(self, encoder: Any) -> int:
        return int(encoder.timm_model.embed_dim)

    def cut(self, encoder: Any, blocks: int) -> None:
        encoder.set_submodule(self.blocks, encoder.get_submodule(self.blocks)[:blocks])
        encoder.config.model_args = {**(encoder.config.model_args or {}), "depth": blocks}

    def resize(self, encoder: Any, side: int) -> None:
        encoder.timm_model.set_input_size(img_size=(side, side))
        encoder.config.model_args = {**(encoder.config.model_args or {}), "img_size": side}


FAMILIES: tuple[Family, ...] = (
    Vit(),
    Deit(),
    Dinov2(),
    Dinov2WithRegisters(),
    Dinov3(),
    Beit(),
    Clip(),
    Siglip(),
    Siglip2(),
    Timm(),
)


def family_of(model_type: str) -> Family:
    """The family of a ``model_type``.

    Raises:
        UnknownFamily: there is none.
    """
    for family in FAMILIES:
        if model_type in family.types:
            return family
    known = ", ".join(f"{family.name} ({', '.join(family.types)})" for family in FAMILIES)
    raise UnknownFamily(f"models of type {model_type!r} cannot be read as a ViT; those that can are {known}")
