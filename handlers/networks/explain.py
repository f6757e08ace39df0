"""Where on a film a label's evidence lies: gradient-weighted tokens of a trained network."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from handlers.networks.copies import CopiesComputedOnce
from handlers.networks.network import Network
from handlers.networks.vit import Vit


def relevance(vit: Vit, pixels: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
    """[B, S, S] uint8 -> [B, S, S] float32: ``relevances`` of one label."""
    return relevances(vit, pixels, [label])[0]


def relevances(vit: Vit, pixels: NDArray[np.uint8], labels: Sequence[int]) -> NDArray[np.float32]:
    """[B, S, S] uint8 -> [L, B, S, S] float32 in [0, 1]: what on each film raises each label's logit.

    A patch counts by what its tokens add to the logit, to first order: token times gradient, summed over the token's
    numbers, its positive part summed over the layers. That is HiResCAM (Draelos, Carin, arXiv:2011.08891, 2020) on the
    patches' tokens. The layers are those that the head pools, where it sees the patches: what each adds is exact there,
    and DINOv2's earlier ones add noise (``training/RESULTS.md``); what a class token beside them adds is not shown.
    Where the head sees the class token alone, those patches have no gradient, and the layers are the entrances of all
    blocks' attentions, after the block's norm: a norm forgets how long a token is, so before it token times gradient is
    zero. Nothing is asked of how a family computes attention. The map is upsampled bilinearly to the model's square and
    divided by the film's maximum, so maps of two films say nothing of which film has more. A film on which no patch
    raises the logit has an all-zero map.

    All labels have one pass: a batch holds a film once for each label, what is the same of its copies is computed once
    (``handlers.networks.copies``), and each copy's gradient comes back from a label of its own. A ViT-B/16 takes some
    400 MB for a film and 14 labels.

    The network itself is not touched, so that other threads may read films with it meanwhile.

    Args:
        vit: the network.
        pixels: films of the model's own size.
        labels: columns of ``vit.logits``.

    Raises:
        ValueError: the films have another size, or the model no such label.
    """
    side = vit.image_size
    if pixels.ndim != 3 or pixels.shape[1:] != (side, side):
        raise ValueError(f"films are {pixels.shape}, the model reads [B, {side}, {side}]")
    for label in labels:
        if not 0 <= label < len(vit.model.labels):
            raise ValueError(f"label {label} is asked for, the model has 0 to {len(vit.model.labels) - 1}")
    with torch.inference_mode(False), torch.enable_grad():  # a caller may have switched gradients off
        copies = np.repeat(pixels, len(labels), axis=0)  # a film's stand side by side
        # requires_grad: so that there are gradients to ask for where the weights are frozen
        inputs = vit.inputs(copies).requires_grad_()
        with CopiesComputedOnce(len(pixels), len(labels)):
            logits, layers = _tokens_of_layers(_twin(vit.model), inputs)
        # The films of a batch do not meet in the network: the sum's gradient is each film's own.
        own = torch.arange(len(copies), device=vit.device), torch.tensor(list(labels) * len(pixels), device=vit.device)
        gradients = torch.autograd.grad(logits[own].sum(), layers)
    before = vit.model.family.before_patches(vit.model.encoder)
    shares = _patch_shares([tokens.detach()[:, before:] for tokens in layers], [one[:, before:] for one in gradients])
    grid = round(shares.shape[1] ** 0.5)
    maps = interpolate(shares.view(-1, 1, grid, grid), size=(side, side), mode="bilinear")[:, 0]
    highest = maps.amax(dim=(1, 2), keepdim=True)
    maps = torch.where(highest > 0, maps / highest, 0.0).view(len(pixels), len(labels), side, side)
    return maps.transpose(0, 1).cpu().numpy()


def _patch_shares(tokens: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Tokens and their gradients, [B, P, H] a layer -> [B, P] float32, not negative."""
    products = [
        (token.float() * gradient.float()).sum(dim=2) for token, gradient in zip(tokens, gradients, strict=True)
    ]
    return torch.stack(products).clamp(min=0).sum(dim=0)


def _tokens_of_layers(twin: Network, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The logits, and the tokens [B, T, H] of the layers that count, all in one graph."""
    layers: list[Tensor] = []
    if twin.pool == "cls":
        for block in twin.blocks:
            block.get_submodule(twin.family.norm).register_forward_hook(lambda _, __, tokens: layers.append(tokens))
    pooled = twin.layers(inputs)
    return twin.head(twin.pooled(pooled).float()), [*layers, *pooled]


def _twin(model: Network) -> Network:
    """The same parameters in modules of its own: hooks on ``model`` would see what other threads read with it."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)
