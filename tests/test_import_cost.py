"""What serves films or asks for them starts without the libraries that networks want: they take seconds and 400 MB."""

import subprocess
import sys
from pathlib import Path

import pytest

NETWORK_LIBRARIES = {"torch", "torchvision", "transformers", "timm", "sklearn", "pandas"}
LIGHT = ["gateway.__main__", "gateway.check", "client.read", "client.score", "client.demo", "workflows.register"]
LIGHT += ["workflows.roll", "workflows.foreground", "pacs.node", "pacs.report", "cluster.score", "cxr"]


@pytest.mark.parametrize("module", LIGHT)
def test_it_starts_without_a_network_library(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    assert NETWORK_LIBRARIES & set(done.stdout.split()) == set()
