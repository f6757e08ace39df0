"""A batch that holds each film several times side by side, for several gradients of it in one backward pass.

What the copies share is computed once: a network's matrix products, attentions and activations. Gradients of the
weights are not given.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from handlers.networks.onednn import OneDnnLinear, multiplies_faster


class CopiesComputedOnce(TorchFunctionMode):
    """Within it a forward pass computes of each film's copies the first one's, and hands on as many of it.

    A call that it does not know whole (a mask, dropout, another first dimension) goes its usual way, with every copy.

    Args:
        films: in the batch.
        copies: of each, side by side.
    """

    def __init__(self, films: int, copies: int) -> None:
        super().__init__()
        self.batch, self.copies = films * copies, copies

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        words = dict(kwargs or {})
        known = args and isinstance(args[0], Tensor) and args[0].ndim > 1 and len(args[0]) == self.batch
        if known and function is linear and not words:
            return _Product.apply(args[0], args[1], args[2] if len(args) > 2 else None, self.copies)
        if known and function is gelu:
            return _Activation.apply(args[0], lambda one: gelu(one, *args[1:], **words), self.copies)
        if known and function is scaled_dot_product_attention and len(args) == 3:
            scale = words.pop("scale", None)
            masked = words.get("attn_mask") is not None  # what else may be told: dropout, causal, fewer heads of keys
            if not masked and not any(words.values()):
                return _Attention.apply(*args, args[0].shape[-1] ** -0.5 if scale is None else scale, self.copies)
            words["scale"] = scale
        return function(*args, **words)


def _first(batch: Tensor, copies: int) -> Tensor:
    """[N * copies, ...] -> [N, ...]."""
    one = batch[::copies].contiguous()
    # Of a single film's copies the first has a stride of 0, with which torch computes number by number.
    return one.flatten().view(one.shape)


def _repeated(one: Tensor, copies: int) -> Tensor:
    """[N, ...] -> [N * copies, ...], a film's side by side."""
    return one[:, None].expand(-1, copies, *one.shape[1:]).flatten(0, 1)


class _Product(torch.autograd.Function):
    """A Linear."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None, copies: int) -> Tensor:
        ctx.save_for_backward(weight)
        return _repeated(_product(_first(input, copies), weight, bias), copies)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient, weight = gradients[0], ctx.saved_tensors[0].t().contiguous()
        if gradient.ndim < 3 or gradient[:, -1].any():
            return _product(gradient, weight, None), None, None, None
        # In the last block gradients reach the class token alone, where the head sees no other.
        reached = gradient.any(dim=-1)
        result = gradient.new_zeros(*gradient.shape[:-1], len(weight))
        result[reached] = _product(gradient[reached], weight, None)
        return result, None, None, None


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if rows.device.type == "cpu" and rows.dtype == torch.float32 and multiplies_faster():
        return OneDnnLinear.product(rows, weight, bias)
    return linear(rows, weight, bias)


class _Activation(torch.autograd.Function):
    """A function of each number alone: its derivative is one copy's, too."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, function: Callable[[Tensor], Tensor], copies: int) -> Tensor:
        with torch.enable_grad():
            one = _first(input, copies).detach().requires_grad_()
            result = function(one)
            (derivative,) = torch.autograd.grad(result.sum(), one)
        ctx.save_for_backward(derivative)
        ctx.copies = copies
        return _repeated(result.detach(), copies)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (derivative,) = ctx.saved_tensors
        return gradients[0] * _repeated(derivative, ctx.copies), None, None


class _Attention(torch.autograd.Function):
    """softmax(Q K^T s) V of [N * copies, heads, T, D], its gradient worked out: torch's own kernel takes twice the time
    on a CPU."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, copies: int) -> Tensor:
        query, key, value = (_first(tensor, copies) for tensor in (query, key, value))  # [N, heads, T, D]
        result = scaled_dot_product_attention(query, key, value, scale=scale)
        ctx.save_for_backward(query, key, value, result)
        ctx.scale, ctx.copies = scale, copies
        return _repeated(result, copies)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, result = ctx.saved_tensors
        shares = (query @ key.transpose(-1, -2)).float().mul_(ctx.scale).softmax(dim=-1).to(query.dtype)
        # [N, heads, T, C, D]: what the copies share is one product's factor for all of them.
        gradient = gradients[0].unflatten(0, (-1, ctx.copies)).permute(0, 2, 3, 1, 4).contiguous()
        of_value = (shares.transpose(-1, -2) @ gradient.flatten(3)).unflatten(3, (ctx.copies, -1))
        # A softmax's gradient: each share times how far its own gradient lies above the mean of its row's.
        own = (gradient.flatten(2, 3) @ value.transpose(-1, -2)).unflatten(2, (-1, ctx.copies))  # [N, heads, T, C, T]
        mean = (gradient * result[:, :, :, None]).sum(dim=-1, keepdim=True)
        of_scores = own.sub_(mean).mul_(shares[:, :, :, None])
        of_query = (of_scores.flatten(2, 3) @ (key * ctx.scale)).unflatten(2, (-1, ctx.copies))
        of_key = (of_scores.flatten(3).transpose(-1, -2) @ (query * ctx.scale)).unflatten(2, (ctx.copies, -1))
        of_query, of_value = (one.permute(0, 3, 1, 2, 4).flatten(0, 1) for one in (of_query, of_value))
        return of_query, of_key.transpose(1, 2).flatten(0, 1), of_value, None, None
