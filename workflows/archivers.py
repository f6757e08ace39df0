"""TorchServe's two archivers, ``torch-model-archiver`` and ``torch-workflow-archiver``, as commands."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def run_archiver(scratch: Path, command: str, *arguments: str | Path) -> None:
    """Runs one of them, with a temporary folder of its own inside ``scratch``.

    In the common one they would delete whatever is called ``binary`` or ``chest_xray`` there, and two at once would
    mix their files.

    Raises:
        OSError: it failed, in its own last words.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as own:
        done = subprocess.run(
            [Path(sys.executable).with_name(command), *map(str, arguments)],
            env={**os.environ, "TMPDIR": own},
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OSError(f"{command} failed: {done.stderr.strip().rpartition(chr(10))[2]}")
