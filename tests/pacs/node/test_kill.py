"""The node, the service and the PACS are killed again and again under load: every film has one report, in its study.

KILL_FILMS says how many instead of 250.
"""

import json
import os
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from pydicom import Dataset, dcmread

from benchmarks.arms.reserved_ports import free_ports
from benchmarks.arms.torchserve import configure
from pacs.film_queue import State
from tests.gateway.conftest import Gateway
from tests.handlers.dicom_files import written
from tests.live.footprint import processes
from tests.pacs.node.archive import evidence
from tests.pacs.node.films import film, small_pixels
from tests.pacs.node.orthanc import INSTALLED, MISSING, Orthanc
from tests.pacs.node.process import Node
from training.archive import archive
from workflows.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not INSTALLED, reason=MISSING)]

FILMS = int(os.environ.get("KILL_FILMS", "250"))
STEPS = (FILMS // 25, FILMS * 6 // 25)
"""Between two kills, of which there are ten; each film takes two."""
AT_ONCE = 20
"""Films of one request to the PACS to send them on."""
SEED = 15
RETURNS_WITHIN = 240.0
"""Seconds for a killed TorchServe, on two cores that others use too."""
DONE_WITHIN = 400.0


@pytest.fixture
def server(run: Path, tmp_path: Path) -> Server:
    """One whose gate lets a tenth of the films through: the report of a film that is skipped is made in less time."""
    folder, narrow = tmp_path / "server", tmp_path / "run"
    shutil.copytree(run, narrow)
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["thresholds"]["Finding"] = float(
        np.float32(pd.read_csv(run / "predictions.csv")["Finding"].quantile(0.9))
    )
    (narrow / "evaluation.json").write_text(json.dumps(evaluation))
    archive(narrow, folder / "model_store", "1.0.0")
    configure(folder)
    return Server.of_folder(folder)


@pytest.fixture
def service(server: Server, tmp_path: Path) -> Iterator[Gateway]:
    one = Gateway(server.folder, tmp_path, ready=False)
    yield one
    one.process.kill()
    one.process.wait()


@pytest.mark.timeout(900)  # what it waits for, together
def test_every_film_has_one_report_whatever_is_killed_when(
    service: Gateway, server: Server, film_paths: list[Path], tmp_path: Path
) -> None:
    films = [film(small_pixels(film_paths[number % len(film_paths)], 64), number) for number in range(1, FILMS + 1)]
    (port,) = free_ports(1)
    for name in ("pacs", "node"):
        (tmp_path / name).mkdir()
    orthanc = Orthanc(tmp_path / "pacs", port)
    settings = {"commit_within": 8.0, "timeout": 10.0, "heatmaps": "", "port": port}
    node = Node(tmp_path / "node", service.url, service.key, [orthanc.peer], **settings)
    try:
        sender = Sender(orthanc, films)
        service.until(lambda: service.get("/health/ready").is_success, RETURNS_WITHIN)
        kills = Kills(random.Random(SEED), node, orthanc, service, server)
        sender.start()
        limit = time.monotonic() + DONE_WITHIN
        while sender.is_alive() or delivered(node) < FILMS:
            assert time.monotonic() < limit, f"{node.queue.counts()}, killed {kills.done}: {node.log_text[-4000:]}"
            kills.look(sender.sent + delivered(node))
        print(f"\n{FILMS} films, killed: {dict(kills.done)}")
        assert kills.left == []
        check(orthanc, films)
    finally:
        node.kill()
        orthanc.kill()


def delivered(node: Node) -> int:
    return sum(number for (_, state), number in node.queue.counts().items() if state is State.DELIVERED)


def check(orthanc: Orthanc, films: list[Dataset]) -> None:
    """One report of each film, none of anything else, and each of its film's patient and study."""
    reports = [dcmread(BytesIO(orthanc.file(one))) for one in orthanc.reports()]
    of = {one.SOPInstanceUID: one for one in films}
    about = [next(iter(evidence(report))) for report in reports]
    assert Counter(about) == dict.fromkeys(of, 1)
    for uid, report in zip(about, reports, strict=True):
        for name in ("PatientID", "PatientName", "StudyInstanceUID"):
            assert report[name].value == of[uid][name].value


class Sender(threading.Thread):
    """Stores the films in the PACS and has them sent to the node, each until that is said to be done.

    Attributes:
        sent: films that the node has acknowledged.
    """

    def __init__(self, orthanc: Orthanc, films: list[Dataset]) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self._orthanc, self._films = orthanc, films

    def run(self) -> None:
        for start in range(0, len(self._films), AT_ONCE):
            batch = [written(one) for one in self._films[start : start + AT_ONCE]]
            ids = [self._insisted(lambda data=data: self._orthanc.post("/instances", data))["ID"] for data in batch]
            self._insisted(lambda ids=ids: self._orthanc.post("/modalities/node/store", {"Resources": ids}))
            self.sent += len(ids)

    def _insisted(self, call: Callable[[], object]):
        """As a modality does: until it is answered well."""
        limit, pause = time.monotonic() + DONE_WITHIN, threading.Event()
        while time.monotonic() < limit:
            try:
                return call()
            except httpx.HTTPError:
                pause.wait(0.2)
        raise AssertionError("the films could not be sent")


class Kills:
    """Kills with SIGKILL and starts again, after numbers of steps that a seed chooses.

    Attributes:
        left: who is to be killed yet, the next one last.
        done: kills of each.
    """

    def __init__(self, chance: random.Random, node: Node, orthanc: Orthanc, service: Gateway, server: Server) -> None:
        self.left = ["node", "PACS"] * 4 + ["service", "worker"]
        chance.shuffle(self.left)
        self.done: Counter[str] = Counter()
        self._service = service
        self._chance, self._server, self._after = chance, server, chance.randint(*STEPS)
        self._processes = {"node": node, "PACS": orthanc, "service": service}

    def look(self, steps: int) -> None:
        """Kills the next one, once the films have taken so many steps: 2 each, sent and delivered."""
        if not self.left or steps < self._after:
            threading.Event().wait(0.05)
            return
        victim = self.left.pop()
        if victim == "worker":  # which TorchServe starts again
            self._service.until(lambda: self._service.get("/health/ready").is_success, RETURNS_WITHIN)
            processes(self._server)["binary worker"][0].kill()
        else:
            one = self._processes[victim]
            one.process.kill()
            one.process.wait()
            one.start()
        self.done[victim] += 1
        self._after = steps + self._chance.randint(*STEPS)
