"""float32 matrix products by oneDNN, which torch carries beside the MKL that its own ``Linear`` calls.

MKL runs its AVX2 kernels on processors that are not Intel's; oneDNN's use AVX-512 on all that have it. The operator is
the one that torch.compile puts in a Linear's place.
"""

import torch
from torch import Tensor, nn


class OneDnnLinear(nn.Linear):
    """A Linear with the same parameters and, to rounding, the same values; with gradients wanted, torch's own."""

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_grad_enabled() or input.dtype != torch.float32:
            return super().forward(input)
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


def compute_by_onednn(model: nn.Module) -> None:
    """Turns the model's Linears into these where torch has both libraries (x86), and leaves it alone elsewhere."""
    if torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDnnLinear
