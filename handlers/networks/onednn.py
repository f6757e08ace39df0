"""Matrix products by oneDNN, which torch carries beside the MKL that its own ``Linear`` calls; in float32 or bfloat16.

MKL runs its AVX2 kernels on processors that are not Intel's; oneDNN's use AVX-512 on all that have it, and AMX. The
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
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


class Bfloat16Linear(nn.Linear):
    """A Linear whose weights are bfloat16: its input is rounded, the sums are float32's, and so is what it returns."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input.to(torch.bfloat16), self.weight, self.bias).float()


class RoundedLinear(Bfloat16Linear):
    """The same values to rounding on a processor without bfloat16: products of such numbers are exact in float32."""

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.float()
        return linear(input.to(torch.bfloat16).float(), self.weight.float(), bias).to(torch.bfloat16).float()


def compute_by_onednn(model: nn.Module) -> None:
    """Turns the model's Linears into these where torch has both libraries (x86), and leaves it alone elsewhere."""
    if torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDnnLinear


def compute_in_bfloat16(model: nn.Module, native: bool) -> None:
    """Rounds the weights of the model's Linears to bfloat16, in place. Norms, softmax and the sums of the residual
    stream stay in float32: they are some percent of the time and most of the error (``benchmarks/RESULTS.md``).

    Args:
        model: changed.
        native: whether the processor multiplies bfloat16.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Bfloat16Linear if native else RoundedLinear
            for parameter in module.parameters():
                parameter.data = parameter.data.to(torch.bfloat16)
