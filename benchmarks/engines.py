"""What can run a ViT on this machine beside torch as it comes: torch.compile, OpenVINO, ONNX Runtime.

Each is a class that turns a loaded ``Vit`` into a function from normalised films to logits; ``benchmarks.limit`` tries
those that are here. OpenVINO and ONNX Runtime are in the benchmark's own environment (``make bench`` makes it).
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from copy import deepcopy
from importlib.util import find_spec
from io import BytesIO
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handlers.networks.onednn import Bfloat16Linear, OneDnnLinear, PackedLinear
from handlers.networks.vit import Vit

Logits = NDArray[np.float32]
Run = Callable[[Tensor], Logits]
"""[B, 3, S, S] float32 normalised -> [B, L]."""


class Engine(ABC):
    """Attributes:
    name: as in the results.
    needs: packages without which it is left out.
    dtypes: precisions that it has on a CPU.
    slow: whether loading takes a minute; it then has its turn in the served precision alone, at one size of batch.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "bfloat16")
    slow: ClassVar[bool] = False

    def missing(self) -> str | None:
        """Why it cannot be tried; None where it can."""
        absent = [package for package in self.needs if find_spec(package) is None]
        return f"{', '.join(absent)} not installed" if absent else None

    @abstractmethod
    def load(self, vit: Vit, batch: int, threads: int, streams: int) -> Run:
        """Raises whatever the engine raises on a network that it cannot take."""


class Eager(Engine):
    """torch, with the products that the handlers use (``handlers.networks.onednn``)."""

    name = "eager"

    def load(self, vit: Vit, batch: int, threads: int, streams: int) -> Run:
        return lambda inputs: vit.model(inputs).float().cpu().numpy()


class Compiled(Engine):
    """torch.compile with frozen weights. It wants a C++ compiler on a CPU."""

    name, slow = "torch.compile", True

    def load(self, vit: Vit, batch: int, threads: int, streams: int) -> Run:
        from torch._inductor import config

        config.freezing = True
        model = torch.compile(_unpacked(vit), dynamic=False)
        with torch.inference_mode():
            model(_example(vit, batch))
        return lambda inputs: model(inputs).float().cpu().numpy()


class OpenVino(Engine):
    """OpenVINO, converted from torch in process; bfloat16 by its own hint, of a float32 network."""

    name, needs = "OpenVINO", ("openvino",)

    def load(self, vit: Vit, batch: int, threads: int, streams: int) -> Run:
        # Without this package it sends no usage reports; each is a process of its own, which takes the cores' time.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        import openvino

        plain = _plain(vit)
        converted = openvino.convert_model(plain, example_input=_example(vit, batch))
        converted.reshape([batch, 3, vit.image_size, vit.image_size])
        wanted = {
            "INFERENCE_PRECISION_HINT": "bf16" if vit.dtype == torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": threads * streams,
            "NUM_STREAMS": streams,
        }
        compiled = openvino.Core().compile_model(converted, "CPU", wanted)

        def run(inputs: Tensor) -> Logits:
            return np.array(compiled.create_infer_request().infer([inputs.numpy()])[0])

        return run


class OnnxRuntime(Engine):
    """ONNX Runtime's CPU provider, which has no bfloat16."""

    name, needs, dtypes = "ONNX Runtime", ("onnxruntime", "onnx"), ("float32",)

    def load(self, vit: Vit, batch: int, threads: int, streams: int) -> Run:
        import onnxruntime

        buffer = BytesIO()
        torch.onnx.export(_plain(vit), (_example(vit, batch),), buffer, dynamo=False, input_names=["films"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
        return lambda inputs: session.run(None, {"films": inputs.numpy()})[0]


ENGINES: dict[str, Engine] = {one.name: one for one in (Eager(), Compiled(), OpenVino(), OnnxRuntime())}


def _unpacked(vit: Vit) -> nn.Module:
    """A copy of the network without oneDNN's own form of its weights, which nothing but oneDNN can look into."""
    packed = [module.packed for module in vit.model.modules() if isinstance(module, PackedLinear)]
    model = deepcopy(vit.model, {id(weights): None for weights in packed})
    for module in model.modules():
        if isinstance(module, PackedLinear):
            module.__class__ = Bfloat16Linear
        elif isinstance(module, OneDnnLinear):
            module.__class__ = nn.Linear
    return model


def _plain(vit: Vit) -> nn.Module:
    """The network in float32 with torch's own Linears, which a converter knows."""
    model = _unpacked(vit).float()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.__class__ = nn.Linear
    return model


def _example(vit: Vit, batch: int) -> Tensor:
    return torch.zeros(batch, 3, vit.image_size, vit.image_size)
