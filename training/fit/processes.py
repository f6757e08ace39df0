"""The processes of one training, on one machine or on several: what they must agree on, and the end of one of them."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch.distributed import DistError

from workflows.command_line import Fault
from workflows.files.atomic import scratch_folder
from workflows.files.text_files import DataError

PATIENCE = timedelta(hours=2)
"""Longest that a process waits for another, whose machine may still be decoding its films. One that was killed is
missed at once: its connections end."""
BACKENDS = ("gloo", "NCCL", "TCPStore")
"""Words by which a failed exchange is known where it is a plain RuntimeError."""


class ProcessLost(Fault):
    """Another process of this training has ended, or its machine cannot be reached."""


@contextmanager
def naming_lost_processes(out: str) -> Iterator[None]:
    """An exchange that fails in the block fails with ProcessLost, which says how to go on with the run in ``out``."""
    try:
        yield
    except RuntimeError as fault:
        if not isinstance(fault, DistError) and not any(name in str(fault) for name in BACKENDS):
            raise
        raise ProcessLost(
            "another process of this training has ended, or its machine cannot be reached. Its own last words say why. "
            f"{out} holds what is finished: the same command with --resume, on every machine, goes on from there "
            f"({str(fault).splitlines()[0]})"
        ) from fault


def require_one_run(accelerator: Accelerator, origin: dict[str, Any], out: Path) -> None:
    """Raises DataError where processes see other films or another configuration, or another folder under ``out``."""
    if accelerator.num_processes == 1:
        return
    with scratch_folder(out / "shared") if accelerator.is_main_process else nullcontext() as made:
        [name] = broadcast_object_list([str(made.name) if made else None])
        seen = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest(), (out / name).exists()
        origins, shared = zip(*gather_object([seen]), strict=True)
    if others := [number for number, one in enumerate(origins) if one != origins[0]]:
        raise DataError(
            f"processes {others} see other films, or another configuration, than process 0: bring the machines' data "
            "folders to the same state"
        )
    if apart := [number for number, there in enumerate(shared) if not there]:
        raise DataError(
            f"processes {apart} do not see the {out} of process 0: name a folder with --out that all machines share"
        )
