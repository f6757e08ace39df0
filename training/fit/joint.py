"""Both ViTs of the cascade as one network, trained on a shared loss."""

from pathlib import Path

import torch
from torch import Tensor, nn

from handlers.findings import FINDING, FINDINGS, STAGE_LABELS
from training.fit.config import ModelConfig
from training.fit.model import build_model, load_checkpoint


class JointVit(nn.Module):
    """Stage 1's logit, and for each disease the logit of p(finding) x p(disease | finding).

    Args:
        config: of both networks.
        start: folder with two single-stage runs to go on from; None builds both from ``config``.
    """

    def __init__(self, config: ModelConfig, start: str | None) -> None:
        super().__init__()
        if start is None:
            self.binary, self.disease = build_model(config, [FINDING]), build_model(config, list(FINDINGS))
        else:
            self.binary, self.disease = (
                load_checkpoint(Path(start) / stage / "checkpoint", config, list(labels))
                for stage, labels in STAGE_LABELS.items()
            )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[B, 3, S, S] -> logits [B, 15]: any finding, then the 14 in NIH's order."""
        finding, disease = self.binary(pixel_values).float(), self.disease(pixel_values).float()
        return torch.cat([finding, product_logits(finding, disease)], dim=1)


def product_logits(first: Tensor, second: Tensor) -> Tensor:
    """The logit of sigmoid(first) x sigmoid(second), without leaving logits: no underflow at either end.

    1 / (sigmoid(a) sigmoid(b)) - 1 = exp(-a) + exp(-b) + exp(-a - b), and the logit of p is -log(1 / p - 1).
    """
    first, second = torch.broadcast_tensors(first, second)
    return -torch.logsumexp(torch.stack([-first, -second, -first - second]), dim=0)
