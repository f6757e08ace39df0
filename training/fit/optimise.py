"""What a step minimises, and how fast each part of the network moves."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import AdamW

from training.fit.config import OptimConfig

Loss = Callable[[Tensor, Tensor], Tensor]

NO_DECAY = ("position_embeddings", "_token", "_tokens")
"""Ends of the names of what is added to the tokens or stands among them: positions; class, mask and register tokens."""


def make_optimizer(model: nn.Module, config: OptimConfig) -> AdamW:
    """AdamW with layer-wise learning-rate decay (Clark et al., ICLR 2020): the head at ``lr``, a block below at
    ``lr * layer_decay``, and so on down to the embeddings.

    Weight decay is for the weights that multiply tokens and pixels: biases, norms, positions and the class token are
    exempt, as in nanoGPT and MAE.
    """
    depth = max(_height(name, 0) for name, _ in model.named_parameters())
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        exempt = parameter.ndim < 2 or name.endswith(NO_DECAY)
        groups.setdefault((_height(name, depth), exempt), []).append(parameter)
    return AdamW(
        [
            {
                "params": those,
                "lr": config.lr * config.layer_decay ** (depth + 1 - height),
                "weight_decay": 0.0 if exempt else config.weight_decay,
            }
            for (height, exempt), those in groups.items()
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


def _height(name: str, depth: int) -> int:
    """0 for the embeddings, 1 to ``depth`` for the blocks, ``depth`` + 1 for the last norm and the head."""
    if ".embeddings." in name:
        return 0
    if ".layers." in name:
        return int(name.split(".layers.")[1].split(".")[0]) + 1
    return depth + 1
