"""What TorchServe makes of archives: their content, in a folder each."""

import zipfile
from pathlib import Path

from handlers.bfloat16_rule import Wanted
from handlers.findings import STAGE_LABELS
from training.archive import archive


def unpack_archives(run: Path, store: Path, precision: Wanted = "float32") -> dict[str, Path]:
    """Packs an evaluated run and unpacks its two models, by stage."""
    archive(run, store, "1.0.0", precision)
    folders = {stage: store / "unpacked" / stage for stage in STAGE_LABELS}
    for stage, folder in folders.items():
        with zipfile.ZipFile(store / f"{stage}.mar") as file:
            file.extractall(folder)
    return folders
