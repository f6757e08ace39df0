"""Matrix products by oneDNN, which torch carries beside the MKL that its own ``Linear`` calls; in float32 or bfloat16.

MKL runs its AVX2 kernels on processors that are not Intel's; oneDNN's use AVX-512 on all that have it, and AMX. Of both
libraries' AVX2 kernels MKL's are a tenth faster, so that float32 stays there with MKL (``benchmarks/RESULTS.md``). The
operator is the one that torch.compile puts in a Linear's place.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class OneDnnLinear(nn.Linear):
    """A Linear with the same parameters and, to rounding, the same values; with gradients wanted, torch's own."""

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() or input.dtype != torch.float32:
            return super().forward(input)
        return self.product(input, self.weight, self.bias)

    @staticmethod
    def product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


class Bfloat16Linear(nn.Linear):
    """A Linear whose weights are bfloat16: its input is rounded, its sums are float32's.

    Attributes:
        returns: bfloat16, or float32 where a family's code wants it so.
    """

    returns: torch.dtype

    def forward(self, input: Tensor) -> Tensor:
        return self.product(input, self.weight, self.bias).to(self.returns)

    @staticmethod
    def product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return linear(rows.to(torch.bfloat16), weight, bias)


class RoundedLinear(Bfloat16Linear):
    """The same values to rounding on a processor without bfloat16: products of such numbers are exact in float32."""

    @staticmethod
    def product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        bias = None if bias is None else bias.float()
        return linear(rows.to(torch.bfloat16).float(), weight.float(), bias).to(torch.bfloat16)


class PackedLinear(Bfloat16Linear):
    """The same values by weights that lie in oneDNN's own blocks, too, which it else makes of them at each call.

    Attributes:
        packed: those; the plain ones stay for gradients. Together they take what float32's do.
    """

    packed: Tensor

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(input)
        rows = input.to(torch.bfloat16)
        return torch.ops.mkldnn._linear_pointwise(rows, self.packed, self.bias, "none", [], "").to(self.returns)


def multiplies_faster() -> bool:
    """Whether oneDNN's float32 products are faster than those of torch's own Linear: on x86 with AVX-512."""
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return both and torch.backends.cpu.get_cpu_capability() == "AVX512"


def compute_by_onednn(model: nn.Module) -> None:
    """Turns the model's Linears into these where torch has both libraries (x86) and these are the faster ones."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return
    for module in model.modules():
        if type(module) is nn.Linear and multiplies_faster():
            module.__class__ = OneDnnLinear
        elif type(module) is Bfloat16Linear and torch.ops.mkldnn._is_mkldnn_bf16_supported():
            module.__class__ = PackedLinear
            packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach())
            module.register_buffer("packed", packed, persistent=False)


def compute_in_bfloat16(model: nn.Module, native: bool, returns: torch.dtype = torch.bfloat16) -> None:
    """Rounds the weights of the model's Linears to bfloat16, in place; what follows a Linear directly (attention, an
    activation) gets its bfloat16. Norms and the sums of the residual stream stay in float32: they are some percent of
    the time and a third of the error (``benchmarks/RESULTS.md``).

    Args:
        model: changed.
        native: whether the processor multiplies bfloat16.
        returns: what the Linears hand on.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Bfloat16Linear if native else RoundedLinear
            assert isinstance(module, Bfloat16Linear)
            module.returns = returns
            for parameter in module.parameters():
                parameter.data = parameter.data.to(torch.bfloat16)
