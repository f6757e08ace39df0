"""A TorchServe with ports and folders of its own, for the two arms that are workflows."""

import subprocess
import sys
from pathlib import Path

import psutil

from benchmarks.arms.arm import ROOT, Arm, ArmError
from benchmarks.arms.reserved_ports import free_ports
from workflows import torchserve
from workflows.server import Server

ARCHIVER = Path(sys.executable).with_name("torch-workflow-archiver")


class TorchServeArm(Arm):
    """What ``start`` has put under ``_server``, and its end."""

    _server: Server | None = None

    @property
    def server(self) -> Server:
        if self._server is None:
            raise ArmError("it is not up")
        return self._server

    def stop(self) -> None:
        if self._server is not None:
            torchserve.end(self._server)
            self._server = None

    def processes(self) -> list[psutil.Process]:
        return torchserve.running(self._server) if self._server else []


def configure(folder: Path) -> None:
    """The project's own ``config.properties``, with other ports and absolute paths."""
    inference, management, metrics, grpc_inference, grpc_management, workers, distribution = free_ports(7)
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
    (folder / "model_store" / "live").mkdir(parents=True, exist_ok=True)
    (folder / "logs").mkdir()


def pack_workflow(name: str, specification: Path, functions: Path, store: Path) -> Path:
    options: list[str | Path] = [
        "--workflow-name",
        name,
        "--spec-file",
        specification,
        "--handler",
        functions,
        "--export-path",
        store,
    ]
    subprocess.run([ARCHIVER, *options], check=True, stdout=subprocess.DEVNULL)
    return store / f"{name}.war"
