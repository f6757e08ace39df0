"""A live TorchServe with ports, folders and archives of its own, and a gateway in front of it: one for all tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.settings import Settings
from tests.conftest import ports_that_are_free
from tests.gateway.conftest import Gateway
from training.archive import archive
from workflows.serve import serve, stop
from workflows.server import Server

ROOT = Path(__file__).parents[1]


def configure(folder: Path) -> None:
    """The project's own configuration, with other ports and absolute paths."""
    inference, management, metrics, grpc_inference, grpc_management, workers, distribution = ports_that_are_free(7)
    own = {
        "inference_address": f"http://127.0.0.1:{inference}",
        "management_address": f"http://127.0.0.1:{management}",
        "metrics_address": f"http://127.0.0.1:{metrics}",
        "grpc_inference_port": grpc_inference,
        "grpc_management_port": grpc_management,
        "initial_worker_port": workers,
        "initial_distribution_port": distribution,
    }
    lines = [line for line in (ROOT / "config.properties").read_text().splitlines() if line.split("=")[0] not in own]
    lines += [f"{key}={value}" for key, value in own.items()]
    text = "\n".join(lines).replace("workflows/log4j2.xml", str(ROOT / "workflows" / "log4j2.xml"))
    (folder / "config.properties").write_text(text + "\n")


@contextmanager
def live_torchserve(run: Path, folder: Path) -> Iterator[Server]:
    """Up, with the workflow registered and one film read; stopped at the end."""
    (folder / "tmp").mkdir()
    archive(run, folder / "model_store", "1.0.0")
    configure(folder)
    with pytest.MonkeyPatch.context() as environment:
        # TorchServe's pid file and the JVM's unpacked archives: two servers on a machine must not share them.
        environment.setenv("TMPDIR", str(folder / "tmp"))
        environment.setenv("TEMP", str(folder / "tmp"))
        environment.delenv("TS_CONFIG_FILE", raising=False)
        one = Server.of_folder(folder)
        serve(one)
        yield one
        stop(one)


@contextmanager
def live_gateway(server: Server, folder: Path, **settings: object) -> Iterator[Gateway]:
    """``python -m gateway`` in front of it, ready, with the product's settings but for those that are named."""
    one = Gateway(server.folder, folder, **{"patience": Settings().patience, **settings})
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
