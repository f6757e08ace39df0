"""What a step minimises, and how fast each part of the network moves."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import AdamW

from handlers.networks.network import Network
from training.fit.config import OptimConfig

Loss = Callable[[Tensor, Tensor], Tensor]

NO_DECAY = (
    *("position_embeddings", "position_embedding.weight", "pos_embed", "relative_position_bias_table"),
    *("_token", "_tokens", "class_embedding", "probe", "latent"),
)
"""Ends of the names of what is added to the tokens or stands among them, in all families: positions; class, mask and
register tokens; the queries of attention pooling."""


def make_optimizer(model: nn.Module, config: OptimConfig) -> AdamW:
    """AdamW with layer-wise learning-rate decay (Clark et al., ICLR 2020): the head at ``lr``, a block below at
    ``lr * layer_decay``, and so on down to the embeddings.

    Weight decay is for the weights that multiply tokens and pixels: biases, norms, positions and the class token are
    exempt, as in nanoGPT and MAE.
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            exempt = parameter.ndim < 2 or name.endswith(NO_DECAY)
            groups.setdefault((_depth(model, name), exempt), []).append(parameter)
    return AdamW(
        [
            {
                "params": those,
                "lr": config.lr * config.layer_decay**depth,
                "weight_decay": 0.0 if exempt else config.weight_decay,
            }
            for (depth, exempt), those in groups.items()
        ]
    )


def make_loss(config: OptimConfig, positive_weights: Tensor) -> Loss:
    """The loss of logits [B, L] float32 against targets [B, L] in {-1, 0, 1}: a mean over what is labelled, not -1.

    What is not labelled has no gradient. With several processes the mean is over each one's part of the batch.

    Args:
        config: which loss, and whether class weights count.
        positive_weights: [L] negatives per positive.
    """
    weights = positive_weights if config.class_weights else torch.ones_like(positive_weights)
    if config.loss == "asymmetric":
        return asymmetric_loss

    def weighted(logits: Tensor, targets: Tensor) -> Tensor:
        known = (targets >= 0).float()
        mean = binary_cross_entropy_with_logits(logits, targets.clamp(min=0), weight=known, pos_weight=weights)
        return mean * _mean_of_labelled(known)

    return weighted


def asymmetric_loss(logits: Tensor, targets: Tensor, focus: float = 4.0, margin: float = 0.05) -> Tensor:
    """Ridnik et al., "Asymmetric Loss For Multi-Label Classification", ICCV 2021, with their gamma- and m.

    Easy negatives count little, very easy ones (p below ``margin``) nothing; what is not labelled (-1), nothing at all.
    """
    known, targets = (targets >= 0).float(), targets.clamp(min=0)
    negative = (torch.sigmoid(logits) - margin).clamp(min=0)
    of_positives = targets * nn.functional.logsigmoid(logits)
    of_negatives = (1 - targets) * negative**focus * torch.log1p(-negative.clamp(max=1 - 1e-6))
    return -((of_positives + of_negatives) * known).mean() * _mean_of_labelled(known)


def _mean_of_labelled(known: Tensor) -> Tensor:
    """[B, L] in {0, 1}: by which a mean over all cells is that over the known ones; 1.0 exactly where all are."""
    return known.numel() / known.sum().clamp(min=1.0)


def _depth(model: nn.Module, name: str) -> int:
    """0 for the head, 1 for the last block, and so on. A joint run's two networks have a depth each."""
    if not isinstance(model, Network):
        part, name = name.split(".", 1)
        model = model.get_submodule(part)
    assert isinstance(model, Network)
    return len(model.blocks) + 1 - model.height(name)
