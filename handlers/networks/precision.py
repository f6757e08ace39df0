"""A served model's precision: bfloat16 where it is faster and was measured to change nothing that counts."""

import sys
import time
from typing import NamedTuple

import torch
from torch import Tensor, nn

from handlers.bfloat16_rule import Bfloat16Effect, Precision, Wanted
from handlers.networks.onednn import compute_by_onednn, compute_in_bfloat16

FASTER = 1.1
"""How many times as fast it must be to be worth any of that."""
ROWS, WIDE, NARROW, TURNS = 394, 3072, 768, 6
"""Of the products that are timed: two films' tokens through ViT-B/16's widest layer."""


class Choice(NamedTuple):
    """A precision, and why."""

    precision: Precision
    why: str

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32


def choose(wanted: Wanted, effect: Bfloat16Effect | None, device: torch.device) -> Choice:
    """The precision that an archive is served in here.

    Args:
        wanted: what it was packed with; ``auto`` leaves it to the machine.
        effect: what bfloat16 changes; None where nobody has measured it.
        device: where the network runs.
    """
    if wanted != "auto":
        return Choice(wanted, "the archive was packed so")
    if effect is None:
        return Choice("float32", "the archive does not say what bfloat16 changes")
    if objection := effect.objection:
        return Choice("float32", objection)
    if not is_native(device):
        return Choice("float32", f"this {device.type.upper()} has no bfloat16 of its own")
    gain = speed_gain(device)
    if gain < FASTER:
        return Choice("float32", f"bfloat16 is {gain:.2f} times as fast as float32 here")
    return Choice("bfloat16", f"it is {gain:.1f} times as fast as float32 here")


def say_precision(stage: str, choice: Choice) -> None:
    """One line in TorchServe's log, which keeps of its workers what they write to stderr."""
    print(f"the {stage} model computes in {choice.precision}: {choice.why}", file=sys.stderr, flush=True)


def is_native(device: torch.device) -> bool:
    """Whether the processor multiplies bfloat16 by instructions of its own: AMX, AVX512_BF16, ARM's, or the GPU's."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16") or has.get("bf16"))


@torch.inference_mode()
def speed_gain(device: torch.device) -> float:
    """Seconds of a layer in float32 over seconds in bfloat16, as the networks compute them; some 0.1 s on a CPU.

    The quickest of several turns counts, for other processes share the cores.
    """
    layers = [nn.Sequential(nn.Linear(NARROW, WIDE)).to(device) for _ in range(2)]
    compute_in_bfloat16(layers[1], native=True)
    if device.type == "cpu":
        for layer in layers:
            compute_by_onednn(layer)
    rows = torch.ones(ROWS, NARROW, device=device)
    times = [[_seconds(layer, rows) for layer in layers] for _ in range(TURNS)][1:]
    exact, coarse = (min(of) for of in zip(*times, strict=True))
    return exact / coarse


def _seconds(layer: nn.Module, rows: Tensor) -> float:
    start = time.perf_counter()
    layer(rows).sum().item()  # waits for a GPU
    return time.perf_counter() - start
