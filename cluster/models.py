"""The two models as the service has them: archives that are the same on every node, each told by its sum."""

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from handlers.findings import STAGE_LABELS
from handlers.metadata import METADATA_FILE, Metadata
from workflows.sums import WrongSum, check_sums, sha256_of


class Model(BaseModel):
    """An archive of a store.

    Attributes:
        version: as its metadata has it.
        sha256: of the archive.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    sha256: str


def models_of(store: Path) -> dict[str, Model]:
    """By stage.

    Raises:
        WrongSum: an archive is missing, or is not what 'make archive' wrote.
    """
    sums = check_sums(store, [f"{stage}.mar" for stage in STAGE_LABELS])
    found = {}
    for stage in STAGE_LABELS:
        with zipfile.ZipFile(store / f"{stage}.mar") as archive:
            metadata = Metadata.model_validate_json(archive.read(METADATA_FILE))
        found[stage] = Model(version=metadata.version, sha256=sums[f"{stage}.mar"])
    return found


def image_size(store: Path) -> int:
    """Side in pixels of the square that stage 1 sees."""
    with zipfile.ZipFile(store / "binary.mar") as archive:
        return Metadata.model_validate_json(archive.read(METADATA_FILE)).image_size


@contextmanager
def unpacked(store: Path, stage: str, sha256: str) -> Iterator[Path]:
    """A stage's archive as a folder, which goes when the block ends.

    Raises:
        WrongSum: this node has another archive than the one that the run began with, or none.
    """
    archive = store / f"{stage}.mar"
    if not archive.exists() or sha256_of(archive) != sha256:
        raise WrongSum(f"{archive} is not there on this node, or is not that of the node where the run began")
    with tempfile.TemporaryDirectory(prefix="cxr-model-") as folder:
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
        yield Path(folder)
