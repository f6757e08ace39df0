"""Films and what the steps in process say of them, a Ray cluster of two nodes, and an S3 on loopback."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest
import s3fs
import torch
from moto.server import ThreadedMotoServer
from ray.cluster_utils import Cluster

from benchmarks.arms.ray_nodes import ray_cluster
from benchmarks.arms.reserved_ports import free_ports
from client.journal import row_of
from handlers.reading import Naming, Screening
from handlers.report import Refusal
from tests.unpacked import unpack_archives

STORE_MEMORY = 100 * 2**20
"""Of a node's object store: bytes."""
COPIES = 2
"""Of each drawn film, under other names."""
BAD = {"cut.png": "TruncatedImage", "empty.png": "EmptyRequest", "words.png": "UnreadableImage"}
"""Files that are no films, and why they are refused."""


@dataclass(frozen=True)
class Films:
    """A folder of films, good ones and bad ones.

    Attributes:
        rows: what the steps in process say of each, by name, as a row of the results.
        store: the archives of the models.
    """

    folder: Path
    rows: dict[str, dict[str, object]]
    store: Path


@pytest.fixture(scope="session")
def films(run: Path, film_paths: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Films:
    """243 films: 240 good ones, and three that are refused."""
    folder, store = tmp_path_factory.mktemp("films"), tmp_path_factory.mktemp("store")
    archives = unpack_archives(run, store)
    for path in film_paths:
        for copy in range(COPIES):
            shutil.copy(path, folder / (f"copy-{copy}-{path.name}" if copy else path.name))
    (folder / "cut.png").write_bytes(film_paths[0].read_bytes()[:2000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "words.png").write_text("no film")
    return Films(folder, _read_in_process(folder, archives), store)


def _read_in_process(folder: Path, archives: dict[str, Path]) -> dict[str, dict[str, object]]:
    cpu = torch.device("cpu")
    screening, naming = Screening(archives["binary"], cpu), Naming(archives["disease"], cpu)
    paths = sorted(folder.iterdir())
    reports = naming.name(screening.screen([path.read_bytes() for path in paths]))
    rows = {}
    for path, report in zip(paths, reports, strict=True):
        reason = report.error.message if isinstance(report, Refusal) else None
        rows[path.name] = row_of(path.name, report) | {"sha256": sum_of(path), "reason": reason}
    return rows


def sum_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def s3() -> Iterator[s3fs.S3FileSystem]:
    """With an empty bucket ``films``; processes that are started find it by their environment."""
    (port,) = free_ports(1)
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    httpx.post(f"http://127.0.0.1:{port}/moto-api/reset").raise_for_status()  # of a server before, in this process
    told = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    told |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    with patch.dict(os.environ, told):
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        files.mkdir("films")
        yield files
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def two_nodes(s3: s3fs.S3FileSystem) -> Iterator[Cluster]:
    """A head and another node, each with a processor; all that they start ends with them."""
    with ray_cluster(2, STORE_MEMORY) as cluster:
        yield cluster
