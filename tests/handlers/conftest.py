"""Both models as TorchServe unpacks them."""

import json
from pathlib import Path

import pytest

from handlers.networks.vit import PREPROCESSOR_FILE
from training.archive import metadata_of


@pytest.fixture(scope="module")
def unpacked(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What TorchServe's unpacked archives hold, as far as the handlers read them."""
    evaluation = json.loads((run / "evaluation.json").read_text())
    folders = {}
    for stage in ("binary", "disease"):
        folders[stage] = tmp_path_factory.mktemp(stage)
        for name in ("config.json", "model.safetensors", PREPROCESSOR_FILE):
            (folders[stage] / name).write_bytes((run / stage / "checkpoint" / name).read_bytes())
        metadata = metadata_of(run, stage, evaluation, "1.0.0", "float32")
        (folders[stage] / "metadata.json").write_text(metadata.model_dump_json())
    return folders
