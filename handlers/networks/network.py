"""A stage's network: an encoder of any family, what is pooled from its tokens, and a linear head.

A checkpoint is what transformers itself would write: where the family has a classification class whose head sees the
same, that class opens it; else its folder says how to.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, load_file, save_file
from torch import Tensor, nn

from handlers.networks.families import Family, Pool, family_of

WEIGHTS_FILE = "model.safetensors"
LOADING_FILE = "LOADING.txt"
"""Only in a checkpoint that no classification class of transformers opens."""
OF_THE_HEAD = ("id2label", "label2id", "num_labels", "num_classes", "label_names")
OF_THE_WRITER = ("transformers_version", "_name_or_path")
"""Keys of ``config.json`` that say nothing of the encoder."""


class NotACheckpoint(ValueError):
    """A folder that does not hold a network of this project; the message names what is wrong in it."""


class Network(nn.Module):
    """[B, 3, S, S] normalised -> logits [B, L].

    Args:
        family: the encoder's.
        encoder: transformers' model.
        pool: what the head sees of a block's tokens.
        head: a linear layer, as wide as ``pool`` and ``earlier`` make it.
        labels: its outputs' names.
        earlier: numbers, from 1, of the blocks whose tokens the head sees beside the last one's, in rising order.
    """

    def __init__(
        self,
        family: Family,
        encoder: Any,
        pool: Pool,
        head: nn.Linear,
        labels: Sequence[str],
        earlier: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.family, self.pool, self.labels, self.earlier = family, pool, list(labels), tuple(earlier)
        self.encoder, self.head = encoder, head
        for number in self.earlier:
            self.blocks[number - 1].register_forward_hook(_note)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.head(self.features(pixel_values).to(self.head.weight.dtype))

    def features(self, pixel_values: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, W]: what the head sees."""
        return self.pooled(self.layers(pixel_values))

    def layers(self, pixel_values: Tensor) -> list[Tensor]:
        """[B, 3, S, S] -> the tokens [B, T, H] that are pooled, under the encoder's last norm: ``earlier``, last."""
        before = _NOTED.set([])
        try:
            last = self.family.tokens(self.encoder, pixel_values)
            return [*(self.family.normed(self.encoder, tokens) for tokens in _NOTED.get()), last]
        finally:
            _NOTED.reset(before)

    def pooled(self, layers: Sequence[Tensor]) -> Tensor:
        """Tokens [B, T, H] a layer -> [B, W]."""
        return torch.cat([self._pooled(tokens) for tokens in layers], dim=1)

    def _pooled(self, tokens: Tensor) -> Tensor:
        if self.pool == "cls":
            return self.family.class_vector(self.encoder, tokens)
        mean = self.family.patch_mean(self.encoder, tokens)
        return mean if self.pool == "mean" else torch.cat([self.family.class_vector(self.encoder, tokens), mean], dim=1)

    def skip_unseen_patches(self) -> None:
        """Where the head sees of the last block the class token alone, the patches' tokens end there as its keys and
        values: what else that block makes of them, a sixteenth of a ViT's work, reaches nothing."""
        if self.pool == "cls":
            for name in self.family.after_mixing:
                # The branch's one token is added to all of them: the class token's sum is right, the others' unseen.
                self.blocks[-1].get_submodule(name).register_forward_pre_hook(_class_token)

    @property
    def blocks(self) -> nn.ModuleList:
        return self.encoder.get_submodule(self.family.blocks)

    def height(self, name: str) -> int:
        """Of a parameter: 0 below the blocks, 1 to N in them, N + 1 above them and in the head."""
        blocks = f"encoder.{self.family.blocks}."
        if name.startswith(blocks):
            return int(name.removeprefix(blocks).split(".")[0]) + 1
        above = ("head.", *(f"encoder.{part}." for part in self.family.top))
        return len(self.blocks) + 1 if name.startswith(above) else 0


_NOTED: ContextVar[list[Tensor]] = ContextVar("noted")
"""What earlier blocks gave in the pass under way; each thread has its own, so that several may read films at once."""


def _note(block: nn.Module, _: Any, tokens: Any) -> None:
    noted = _NOTED.get(None)
    if noted is not None:  # else the encoder runs by itself
        noted.append(tokens[0] if isinstance(tokens, tuple) else tokens)


def _class_token(_: nn.Module, tokens: tuple[Tensor]) -> tuple[Tensor]:
    return (tokens[0][:, :1],)


def width(family: Family, encoder: Any, pool: Pool, earlier: Sequence[int] = ()) -> int:
    """Of what the head sees."""
    return family.width(encoder) * (2 if pool == "both" else 1) * (len(earlier) + 1)


def save_network(network: Network, folder: Path) -> None:
    """Writes ``config.json``, ``model.safetensors`` and, where no class of transformers opens them, how to."""
    family, encoder = network.family, network.encoder
    config = copy.deepcopy(family.file_config(encoder.config))
    pool = family.native_pool(encoder.config)
    native = family.classifier is not None and (network.pool, network.earlier) == (pool, ())
    config.architectures = [family.classifier if native else family.encoder]
    config.id2label = dict(enumerate(network.labels))
    config.label2id = {label: number for number, label in enumerate(network.labels)}
    if hasattr(config, "label_names"):
        config.label_names = network.labels  # TimmWrapper's, from which it makes the two above
    config.pool = network.pool
    config.earlier = list(network.earlier)
    encoder.save_pretrained(folder, max_shard_size="1TB")  # in the hub's names, which differ from those in memory
    stored = load((folder / WEIGHTS_FILE).read_bytes())
    tensors = {family.prefix + name.removeprefix(family.prefix): tensor for name, tensor in stored.items()}
    for name, tensor in network.head.state_dict().items():
        tensors[f"{family.head}.{name}"] = tensor.detach().cpu().contiguous()
    config.save_pretrained(folder)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    if not native:
        (folder / LOADING_FILE).write_text(_how_to_load(network))


def load_network(folder: Path, dtype: torch.dtype = torch.float32) -> Network:
    """The network that ``save_network`` wrote, or transformers' own classification class; its head in float32.

    Raises:
        NotACheckpoint: a file is missing or damaged, or the weights do not fit the configuration.
        UnknownFamily: its model type is none that works.
    """
    config = read_config(folder)
    family = family_of(config.model_type)
    inner = family.encoder_config(config)
    pool: Pool = getattr(config, "pool", None) or family.native_pool(inner)
    earlier = getattr(config, "earlier", [])
    try:
        tensors = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as fault:
        raise NotACheckpoint(f"{folder / WEIGHTS_FILE} holds no weights: {fault}") from fault
    weight, bias = (tensors.pop(f"{family.head}.{name}", None) for name in ("weight", "bias"))
    if weight is None or bias is None:
        raise NotACheckpoint(f"{folder / WEIGHTS_FILE} has no head: {family.head}.weight and .bias are missing")
    of_encoder = {name.removeprefix(family.prefix): tensor for name, tensor in tensors.items()}
    encoder = encoder_of(family, None, inner, str(folder), dtype, of_encoder)
    fits = len(config.id2label), width(family, encoder, pool, earlier)
    if tuple(weight.shape) != fits or bias.shape != fits[:1]:
        raise NotACheckpoint(
            f"{folder / WEIGHTS_FILE}: the head is {list(weight.shape)}, {folder}/config.json wants {list(fits)} "
            f"({len(config.id2label)} labels, pool {pool!r})"
        )
    head = nn.Linear(weight.shape[1], weight.shape[0])
    head.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return Network(family, encoder, pool, head, [config.id2label[number] for number in range(fits[0])], earlier)


def read_config(folder: Path) -> Any:
    """Raises NotACheckpoint where ``config.json`` is missing or damaged."""
    try:
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as fault:
        raise NotACheckpoint(f"{folder}/config.json cannot be read: {fault}") from fault


def encoder_of(
    family: Family,
    source: str | None,
    config: Any,
    name: str,
    dtype: torch.dtype = torch.float32,
    tensors: Mapping[str, Tensor] | None = None,
) -> Any:
    """The family's encoder.

    Args:
        family: its own.
        source: a folder or hub name with weights; None where ``tensors`` holds them.
        config: the encoder's.
        name: for messages.
        dtype: of its weights.
        tensors: by the encoder's parameter names.

    Raises:
        NotACheckpoint: weights are missing or of another shape.
        OSError: the source is neither a folder with weights nor a name that the hub knows.
    """
    kind = getattr(transformers, family.encoder)
    given = {} if tensors is None else {"state_dict": dict(tensors)}
    try:
        encoder, found = kind.from_pretrained(
            source, config=config, dtype=dtype, output_loading_info=True, **family.opening, **given
        )
    except RuntimeError as fault:  # sizes that do not fit
        raise NotACheckpoint(f"{name}: the weights do not fit its config.json: {fault}") from fault
    if missing := sorted(found["missing_keys"]):
        raise NotACheckpoint(f"{name} is no {family.name} checkpoint: {len(missing)} weights missing, {missing[:3]} …")
    encoder.get_submodule(family.blocks)  # AttributeError: a model of timm's that is no ViT
    return encoder


def encoder_sha256(folder: Path) -> str:
    """Of all that makes a checkpoint's features: the encoder's weights, its configuration, pooling and statistics.

    Two checkpoints of one value turn a film into the same features, whatever their heads are.
    """
    config = read_config(folder)
    family = family_of(config.model_type)
    plain = {key: value for key, value in config.to_dict().items() if key not in (*OF_THE_HEAD, *OF_THE_WRITER)}
    preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
    statistics = {key: preprocessor[key] for key in ("size", "image_mean", "image_std")}
    digest = hashlib.sha256(json.dumps([plain, statistics], sort_keys=True, default=str).encode())
    with safe_open(folder / WEIGHTS_FILE, "np") as file:
        for name in sorted(file.keys()):
            if not name.startswith(f"{family.head}."):
                digest.update(name.encode() + file.get_tensor(name).tobytes())
    return digest.hexdigest()


def _how_to_load(network: Network) -> str:
    sees = {
        "cls": "the class token",
        "mean": "the mean of the patches' tokens",
        "both": "the class token and the mean of the patches' tokens, side by side",
    }[network.pool]
    family, shape = network.family, list(network.head.weight.shape)
    numbers = ", ".join(map(str, network.earlier))
    of_blocks = f",\n              of blocks {numbers} and the last, each under the last norm" if numbers else ""
    return (
        f"No classification class of transformers opens this {family.name} checkpoint whole.\n\n"
        f"The encoder:  transformers.{family.encoder}.from_pretrained(FOLDER)\n"
        f"The head:     {family.head}.weight {shape} and {family.head}.bias in {WEIGHTS_FILE}\n"
        f"              sees {sees} (key 'pool' of config.json){of_blocks};\n"
        f"              logits = features @ weight.T + bias\n"
        f"Both, here:   handlers.networks.network.load_network(FOLDER)\n"
    )
