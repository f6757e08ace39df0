"""Where on a film a label's evidence lies: gradient-weighted attention relevance of a trained ViT."""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from handlers.networks.vit import Vit


def relevance(vit: Vit, pixels: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
    """[B, S, S] uint8 -> [B, S, S] float32 in [0, 1]: what on each film raises the label's logit.

    Chefer, Gur, Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
    Transformers", ICCV 2021, equations 5 and 6: R += mean over heads of relu(gradient * attention) @ R, block by
    block. The patches' shares in the class token are upsampled bilinearly to the model's square and divided by the
    film's maximum, so maps of two films say nothing of which film has more. A film on which no attention raises the
    logit has an all-zero map.

    The network itself is not touched, so that other threads may read films with it meanwhile. A call holds every
    block's attention and its gradient: for a ViT-B/16 at 224 px some 45 MB a film beside the activations.

    Args:
        vit: a ViT or DINOv2 classifier: one class token before the patches' tokens.
        pixels: films of the model's own size.
        label: column of ``vit.probabilities``.

    Raises:
        ValueError: the films have another size, or the model no such label.
    """
    side = vit.image_size
    if pixels.ndim != 3 or pixels.shape[1:] != (side, side):
        raise ValueError(f"films are {pixels.shape}, the model reads [B, {side}, {side}]")
    with torch.inference_mode(False), torch.enable_grad():  # a caller may have switched gradients off
        # requires_grad: so that there are gradients to ask for where the weights are frozen
        inputs = vit.inputs(pixels).requires_grad_()
        outputs = _eager_twin(vit.model)(pixel_values=inputs, output_attentions=True)
        labels = outputs.logits.shape[1]
        if not 0 <= label < labels:
            raise ValueError(f"label {label} is asked for, the model has 0 to {labels - 1}")
        # The films of a batch do not meet in the network: the sum's gradient is each film's own.
        gradients = torch.autograd.grad(outputs.logits[:, label].float().sum(), outputs.attentions)
    shares = _class_token_shares([one.detach() for one in outputs.attentions], gradients)
    grid = round(shares.shape[1] ** 0.5)
    maps = interpolate(shares.view(-1, 1, grid, grid), size=(side, side), mode="bilinear")[:, 0]
    highest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(highest > 0, maps / highest, 0.0).cpu().numpy()


def _class_token_shares(attentions: list[Tensor], gradients: tuple[Tensor, ...]) -> Tensor:
    """Attentions and their gradients, [B, heads, 1 + P, 1 + P] a block -> [B, P] float32, not negative."""
    batch, _, tokens, _ = attentions[0].shape
    shares = torch.eye(tokens, device=attentions[0].device).repeat(batch, 1, 1)
    for attention, gradient in zip(attentions, gradients, strict=True):
        shares = shares + (attention.float() * gradient.float()).clamp(min=0).mean(dim=1) @ shares
    return shares[:, 0, 1:]


def _eager_twin(model: Any) -> Any:
    """The same parameters in modules of its own, whose attention is computed so that it can be looked at.

    Switching ``model`` itself would change what it computes, in the last bits, while another thread uses it, and
    leave transformers' recording hooks on it.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    twin.set_attn_implementation("eager")
    return twin
