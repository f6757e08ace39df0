"""A worker that computes no more ends, so that TorchServe starts another; one bad batch does not end it."""

import subprocess
import sys
from pathlib import Path

import pytest

from handlers.networks.vit import BROKEN

ROOT = Path(__file__).parents[2]
WORKER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from handlers.{stage}_handler import {name} as Handler
from handlers.networks.vit import Vit
from handlers.report import Score
from handlers.message import Screened, pack
import numpy as np

folder, films_lost = sys.argv[1], int(sys.argv[2])
context = SimpleNamespace(system_properties={{"model_dir": folder, "gpu_id": None}},
                          metrics=SimpleNamespace(add_counter=lambda name, value: None))
handler = Handler()
handler.initialize(context)
forward, calls = Vit._forward, []

def lost(self, pixels, threads):
    calls.append(len(pixels))
    if len(calls) <= films_lost:
        raise RuntimeError("CUDA error: unspecified launch failure")
    return forward(self, pixels, threads)

Vit._forward = lost
if "{stage}" == "binary":
    body = Path(sys.argv[3]).read_bytes()
else:
    side = handler.naming.vit.image_size
    body = pack(Screened(Score.at(0.9, 0.5), 2.0, "1", np.zeros((side, side), np.uint8), None))
print(handler.handle([{{"body": body}}], context)[0].decode("latin-1"))
"""


def worker(stage: str, folder: Path, films_lost: int, film: Path) -> subprocess.CompletedProcess[str]:
    script = WORKER.format(stage=stage, name=f"{stage.capitalize()}Handler")
    command = [sys.executable, "-c", script, str(folder), str(films_lost), str(film)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("stage", ["binary", "disease"])
def test_a_worker_whose_device_is_lost_ends_itself(stage: str, unpacked: dict[str, Path], film_paths) -> None:
    done = worker(stage, unpacked[stage], 1_000_000, film_paths[0])
    assert done.returncode == BROKEN, done.stderr
    assert "computes no more on cpu: this worker ends" in done.stderr


@pytest.mark.parametrize("stage", ["binary", "disease"])
def test_a_worker_that_fails_on_one_batch_answers_it_and_goes_on(stage: str, unpacked, film_paths) -> None:
    done = worker(stage, unpacked[stage], 1, film_paths[0])
    assert done.returncode == 0, done.stderr
    assert "InternalError" in done.stdout
