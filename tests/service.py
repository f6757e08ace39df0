"""A live TorchServe with ports, folders and archives of its own, and a gateway in front of it: one for all tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.arms.torchserve import configure
from gateway.settings import Settings
from handlers.bfloat16_rule import Wanted
from tests.gateway.conftest import Gateway
from training.archive import archive
from workflows import torchserve
from workflows.register import register
from workflows.server import Server
from workflows.store import deploy


@contextmanager
def live_torchserve(run: Path, folder: Path, precision: Wanted = "float32") -> Iterator[Server]:
    """Up, with the workflow registered and one film read; stopped at the end."""
    archive(run, folder / "model_store", "1.0.0", precision)
    configure(folder)
    one = Server.of_folder(folder)
    deploy(one)
    torchserve.start(one)
    register(one)
    yield one
    torchserve.end(one)


@contextmanager
def live_gateway(server: Server, folder: Path, **settings: object) -> Iterator[Gateway]:
    """``python -m gateway`` in front of it, ready, with the product's settings but for those that are named."""
    one = Gateway(server.folder, folder, **{"restart_after": Settings().restart_after, **settings})
    yield one
    one.stop()


@pytest.fixture(scope="session")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One TorchServe for all tests that leave it as it is."""
    with live_torchserve(run, tmp_path_factory.mktemp("server")) as one:
        yield one


@pytest.fixture(scope="session")
def gateway(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway in front of it."""
    with live_gateway(server, tmp_path_factory.mktemp("gateway")) as one:
        yield one
