"""Augmentation of a whole batch at once, on the device that holds it."""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from training.fit.config import AugmentConfig


def augment(films: Tensor, config: AugmentConfig) -> Tensor:
    """[B, 1, S, S] float32 in [0, 1] -> the same shape and range, every film drawn for itself.

    Random square crop, horizontal flip, rotation (black beyond the edge), brightness and contrast; without the crop
    it is the notebook's set.
    """
    batch, device = len(films), films.device
    angle = (torch.rand(batch, device=device) * 2 - 1) * math.radians(config.rotation)
    mirror = 1 - 2 * (torch.rand(batch, device=device) < config.flip).float()
    cosine, sine = torch.cos(angle), torch.sin(angle)
    side = (config.crop + torch.rand(batch, device=device) * (1 - config.crop)).sqrt()
    right, down = ((torch.rand(batch, device=device) * 2 - 1) * (1 - side) for _ in range(2))
    rows = torch.stack([side * mirror * cosine, -side * sine, right, side * mirror * sine, side * cosine, down], dim=1)
    grid = affine_grid(rows.view(batch, 2, 3), list(films.shape), align_corners=False)
    turned = grid_sample(films, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    brighter = (turned * _factors(batch, config.brightness, device)).clamp(0, 1)
    mean = brighter.mean(dim=(1, 2, 3), keepdim=True)
    return (mean + (brighter - mean) * _factors(batch, config.contrast, device)).clamp(0, 1)


def _factors(batch: int, strength: float, device: torch.device) -> Tensor:
    return (1 + (torch.rand(batch, device=device) * 2 - 1) * strength).view(batch, 1, 1, 1)
