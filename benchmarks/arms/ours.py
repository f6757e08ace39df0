"""The cascade as it is served: through the workflow, and through the gateway in front of it."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from benchmarks.arms import torchserve
from benchmarks.arms.arm import ROOT, START_LIMIT, Arm, ArmError, end, tree
from benchmarks.arms.reserved_ports import free_ports
from benchmarks.load import Target
from handlers.findings import FINDINGS
from handlers.metadata import Metadata
from handlers.report import Report, parse_answer
from training.archive import pack_model
from workflows import torchserve as engine
from workflows.active import WORKFLOW
from workflows.register import predict, probe_film, register
from workflows.server import Server, ServerError
from workflows.sums import place

WORKFLOWS = ROOT / "workflows"
CONTENT = "application/octet-stream"


class Workflow(torchserve.TorchServeArm):
    """TorchServe with the project's archives, workflow and configuration."""

    name = "ours_workflow"
    specification = WORKFLOWS / f"{WORKFLOW}.yaml"

    def start(self, share: Path, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        store, scratch = folder / "model_store" / "live", folder / "scratch"
        store.mkdir(parents=True)
        scratch.mkdir()
        stages = [share / stage for stage in ("binary", "disease")]
        made = [pack_model(stage, self.metadata(stage), scratch) for stage in stages]
        made.append(torchserve.pack_workflow(WORKFLOW, self.specification, WORKFLOWS / "no_functions.py", scratch))
        place(made, store)
        shutil.rmtree(scratch)
        torchserve.configure(folder)
        self._server = Server.of_folder(folder)
        try:
            engine.start(self.server)
            register(self.server)
        except ServerError as fault:
            raise ArmError(str(fault)) from fault

    def metadata(self, stage: Path) -> Metadata:
        return Metadata.read(stage)

    def target(self, films: Sequence[bytes]) -> Target:
        predict(self.server, probe_film())  # renews the token where it has expired
        address = urlsplit(self.server.inference)
        return Target(
            str(address.hostname),
            int(address.port or 80),
            f"/wfpredict/{WORKFLOW}",
            {"Authorization": f"Bearer {_inference_key(self.server)}", "Content-Type": CONTENT},
            films,
        )

    def probabilities(self, body: bytes) -> list[float]:
        return report_probabilities(body)

    def counts(self) -> dict[str, int]:
        """Once they stand still: a worker reports its counters just after it has answered."""
        seen = _counters(self.server)
        for _ in range(20):
            time.sleep(0.1)
            before, seen = seen, _counters(self.server)
            if seen == before:
                break
        return seen


class Float32(Workflow):
    """The same in float32: what a machine's own precision gains."""

    name = "ours_float32"

    def metadata(self, stage: Path) -> Metadata:
        return super().metadata(stage).model_copy(update={"precision": "float32"})


class Gateway(Arm):
    """``python -m gateway`` with an API key, before the TorchServe of ``ours_workflow``, whose process it needs."""

    name = "ours_gateway"

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        self._process: subprocess.Popen[bytes] | None = None

    def missing(self) -> str | None:
        try:
            there = find_spec("gateway.__main__") is not None and find_spec("gateway.keys") is not None
        except ModuleNotFoundError:
            there = False
        return None if there else "the gateway is not in this tree"

    def start(self, share: Path, folder: Path) -> None:
        if not self._workflow.processes():
            raise ArmError("its TorchServe is not up")
        from gateway.keys import first_key  # not in a tree without the gateway

        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        secrets = folder / "secrets"
        first_key(secrets)
        self._key = (secrets / "first.key").read_text().strip()
        (self._port,) = free_ports(1)
        arguments: dict[str, object] = {"port": self._port, "server": self._workflow.server.folder, "secrets": secrets}
        arguments["restart_after"] = 600  # a full queue must not look like a server that has to be started anew
        self._log = folder / "log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", *(f"--{name}={value}" for name, value in arguments.items())],
                cwd=ROOT,
                env=dict(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait()

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ArmError(f"the gateway ended with {self._process.returncode}: {self._log.read_text()[-600:]}")
            try:
                if httpx.get(f"http://127.0.0.1:{self._port}/health/ready", timeout=5.0).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise ArmError(f"the gateway was not ready within {START_LIMIT:g} s: {self._log.read_text()[-400:]}")

    def stop(self) -> None:
        if self._process is not None:
            end(tree(self._process.pid))
            self._process = None

    def target(self, films: Sequence[bytes]) -> Target:
        # ``ours_workflow`` sends its films to the same TorchServe, where a probe of the gateway's own may wait behind
        # them for longer than it is given: the gateway is then ready again with the next one.
        self._wait()
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": CONTENT}
        return Target("127.0.0.1", self._port, "/v1/reports", headers, films)

    def probabilities(self, body: bytes) -> list[float]:
        return report_probabilities(body)

    def processes(self) -> list[psutil.Process]:
        """The gateway's and TorchServe's."""
        return [*(tree(self._process.pid) if self._process else []), *self._workflow.processes()]

    def counts(self) -> dict[str, int]:
        return self._workflow.counts()


def report_probabilities(body: bytes) -> list[float]:
    report = parse_answer(body)
    if not isinstance(report, Report):
        raise ValueError(f"a film was refused: {report.error.message}")
    return [report.finding.probability, *(report.diseases[name].probability for name in FINDINGS)]


def _inference_key(server: Server) -> str:
    return str(json.loads((server.folder / "key_file.json").read_text())["inference"]["key"])


def _counters(server: Server) -> dict[str, int]:
    text = server.call("GET", f"{server.metrics}/metrics", "inference").text
    rows = (line.rpartition(" ") for line in text.splitlines() if line.startswith("cxr_"))
    seen = {name.partition("{")[0]: float(value) for name, _, value in rows}
    names = [f"{stage}_{what}" for stage in ("binary", "disease") for what in ("batches", "films")]
    return {name: round(seen.get(f"cxr_{name}", 0.0)) for name in names}
