"""What figures depend on: the processor and what it has, the libraries, and the precision that ``auto`` gives here."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

import psutil
import torch

from handlers.bfloat16_rule import Bfloat16Effect, Precision
from handlers.networks.precision import choose
from handlers.networks.vit import serving_device

PEERS_PYTHON = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
"""Sees this environment's packages, and the peers' (``make .venv-peers/installed``)."""
PACKAGES = ("torch", "transformers", "pillow", "pydicom", "torchserve", "fastapi")
OF_PEERS = ("litserve", "ray", "openvino", "onnxruntime")
HAS = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "sve", "bf16")
"""Of a processor's instructions, those that matter here."""


def own_precision() -> Precision:
    """What ``auto`` gives a pair of which bfloat16 changes nothing that counts, as it does of trained ones."""
    nothing = Bfloat16Effect(
        films=1, largest_change=0.0, finding_auc_change=None, mean_auc_change=None, flipped={}, films_flipped=0
    )
    return choose("auto", nothing, serving_device()).precision


def processor() -> str:
    """Its name, as Linux has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "machine": {
            "kind": platform.machine(),
            "processor": processor(),
            "has": [one for one in HAS if getattr(torch.cpu, "get_capabilities", dict)().get(one)],
            "cores": os.cpu_count(),
            "vectors": torch.backends.cpu.get_cpu_capability(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "load_average_at_start": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version()}
        | {name: _version(name) for name in PACKAGES}
        | peer_versions(),
    }


def peer_versions() -> dict[str, str | None]:
    """Of what the peers' environment adds."""
    found = {name: next(iter(distributions(name=name, path=peers_folders())), None) for name in OF_PEERS}
    return {name: one and one.version for name, one in found.items()}


def peers_python() -> str:
    """The interpreter of the peers' environment; this one's where that was not made."""
    return str(PEERS_PYTHON) if PEERS_PYTHON.exists() else sys.executable


def peers_folders() -> list[str]:
    """Where its packages lie."""
    return [*sys.path, *map(str, PEERS_PYTHON.parents[1].glob("lib/python*/site-packages"))]


def look_in(folders: list[str]) -> None:
    """Lets this process import from there: one that was spawned looks where its parent does, whatever interpreter it
    has."""
    sys.path[:] = folders


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
