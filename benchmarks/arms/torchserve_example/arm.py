"""The example's design as an arm of the benchmark."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

from benchmarks.arms import tally, torchserve
from benchmarks.arms.arm import ROOT, START_LIMIT, ArmError
from benchmarks.load import Target
from workflows import torchserve as engine
from workflows.register import probe_film
from workflows.server import KEY_FILE, Server, ServerError

HERE = Path(__file__).parent
NAME = "example"


class TorchServeExample(torchserve.TorchServeArm):
    name = "torchserve_example"

    def start(self, share: Path, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        store = folder / "model_store" / "live"
        store.mkdir(parents=True)
        (folder / "tally").mkdir()
        for stage in ("binary", "disease"):
            self._archive(stage, store)
        torchserve.pack_workflow(NAME, HERE / "workflow.yaml", HERE / "functions.py", store)
        torchserve.configure(folder)
        self._server = Server.of_folder(folder)
        own = {"PAIR": str(share), "PYTHONPATH": str(ROOT), tally.FOLDER: str(folder / "tally")}
        try:
            with patch.dict(os.environ, own):
                engine.start(self.server)
            url = f"{self.server.management}/workflows?url={NAME}.war&workflow_name={NAME}"
            response = self.server.call("POST", url, "management", timeout=START_LIMIT)
            if not response.is_success:
                raise ArmError(f"not registered: {response.text.strip()}")
            self._read_one()
        except ServerError as fault:
            raise ArmError(str(fault)) from fault

    def target(self, films: Sequence[bytes]) -> Target:
        self.server.call("GET", f"{self.server.inference}/ping", "inference")  # renews an expired token
        key = json.loads((self.server.folder / KEY_FILE).read_text())["inference"]["key"]
        address = urlsplit(self.server.inference)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/octet-stream"}
        return Target(str(address.hostname), int(address.port or 80), f"/wfpredict/{NAME}", headers, films)

    def probabilities(self, body: bytes) -> list[float]:
        answer = json.loads(body)
        return [answer["finding"], *(answer["diseases"] or [0.0] * 14)]

    def counts(self) -> dict[str, int]:
        return tally.read(self.server.folder / "tally")

    def _archive(self, stage: str, store: Path) -> None:
        """The checkpoint is read where it lies; the archive holds the handler alone."""
        command = Path(sys.executable).with_name("torch-model-archiver")
        options: list[str | Path] = ["--model-name", stage, "--version", "1.0", "--handler", HERE / f"{stage}.py", "-f"]
        subprocess.run([command, *options, "--export-path", store], check=True, stdout=subprocess.DEVNULL)

    def _read_one(self) -> None:
        url = f"{self.server.inference}/wfpredict/{NAME}"
        response = self.server.call("POST", url, "inference", content=probe_film(), timeout=60.0)
        if not response.is_success:
            raise ArmError(f"its first film: HTTP {response.status_code}: {response.text[:300]}")
