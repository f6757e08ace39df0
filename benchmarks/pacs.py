"""What a film costs on its way from a PACS through the node and back, and what of that is the models': JSON.

    python -m benchmarks.pacs [--heatmaps all-present] [--films N]

Films of 2000 x 2000 px (12 bit, 8 MB) go by C-STORE to ``python -m pacs.node``, through the gateway and TorchServe with
a ViT-B/16 pair of random weights, half of them routed; a C-STORE of the report into an SCP of this process is the end.
First one after the other, then as many at once as two senders send. Beside it the same films straight to the gateway,
and the two networks alone, in process.
"""

import argparse
import json
import os
import platform
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import torch
import yaml
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
)

from benchmarks.arms.arm import ROOT, end, tree
from benchmarks.arms.ours import Gateway, Workflow
from benchmarks.arms.reserved_ports import free_ports
from benchmarks.films import as_dicom, decoded, film_paths
from benchmarks.limit import forward, vits
from benchmarks.pairs import IMAGE_SIZE, Pair, make_pair
from benchmarks.serving import NIH, SAMPLE, say
from client.gateway import Gateway as Client
from workflows.torchserve import MALLOC

PACS, NODE = "PACS", "CXR"
SENDERS = 2
PATIENCE = 600.0
"""Seconds until a report that does not come ends the benchmark."""


class Archive:
    """An SCP that notes when each film's report came."""

    def __init__(self, port: int) -> None:
        self.reports: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
        ae = AE(PACS)
        for kind in (ComprehensiveSRStorage, SecondaryCaptureImageStorage):
            ae.add_supported_context(kind)
        self._server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._kept)])

    def _kept(self, event: evt.Event) -> int:
        if event.request.AffectedSOPClassUID == ComprehensiveSRStorage:
            self.reports.put((event.dataset.StudyInstanceUID, time.perf_counter()))
        return 0x0000

    def close(self) -> None:
        self._server.shutdown()


def send(port: int, films: Sequence[pydicom.Dataset]) -> None:
    """Over one association."""
    ae = AE(PACS)
    ae.add_requested_context(DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian)
    line = ae.associate("127.0.0.1", port, ae_title=NODE)
    for film in films:
        status = line.send_c_store(film)
        if status.get("Status") != 0x0000:
            raise SystemExit(f"the node does not take a film: {status}")
    line.release()


def numbered(films: Sequence[bytes], number: int) -> list[pydicom.Dataset]:
    """So many films, each of a study of its own."""
    made = []
    for at in range(number):
        film = pydicom.dcmread(BytesIO(films[at % len(films)]))
        film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        film.StudyInstanceUID, film.SeriesInstanceUID, film.Modality = generate_uid(), generate_uid(), "DX"
        film.PatientID, film.PatientName, film.PatientOrientation = f"P{at}", "", ["L", "F"]
        made.append(film)
    return made


@contextmanager
def node(folder: Path, gateway: str, key: Path, archive: int, heatmaps: str) -> Iterator[int]:
    """``python -m pacs.node``; its port."""
    port, metrics = free_ports(2)
    told = {
        "ae_title": NODE,
        "port": port,
        "metrics_port": metrics,
        "folder": str(folder),
        "gateway": gateway,
        "key_file": str(key),
        "heatmaps": heatmaps,
        "peers": [{"ae_title": PACS, "host": "127.0.0.1", "port": archive}],
    }
    config = folder.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(told))
    command = [sys.executable, "-m", "pacs.node", "--config", str(config)]
    with folder.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        while '"listening"' not in folder.with_suffix(".log").read_text():
            if process.poll() is not None:
                raise SystemExit(folder.with_suffix(".log").read_text())
            time.sleep(0.1)
        yield port
    finally:
        end(tree(process.pid))


def one_after_the_other(port: int, archive: Archive, films: Sequence[pydicom.Dataset]) -> list[float]:
    """Seconds of each, from the start of its C-STORE to its report's."""
    seconds = []
    for film in films:
        began = time.perf_counter()
        send(port, [film])
        _, came = archive.reports.get(timeout=PATIENCE)
        seconds.append(came - began)
    return seconds


def sustained(port: int, archive: Archive, films: Sequence[pydicom.Dataset]) -> float:
    """Films a minute, from the first C-STORE to the last report."""
    began = time.perf_counter()
    with ThreadPoolExecutor(SENDERS) as pool:
        sent = [pool.submit(send, port, films[at::SENDERS]) for at in range(SENDERS)]
        came = [archive.reports.get(timeout=PATIENCE)[1] for _ in films]
        for one in sent:
            one.result()
    return 60.0 * len(films) / (max(came) - began)


def models(pair: Pair, films: Sequence[bytes]) -> dict[str, float]:
    """Seconds a film of both networks alone, where half of the films are routed: one at a time, and 16 a batch."""
    binary, disease, _ = vits(pair.at_share(50), "float32")
    pixels = decoded(films, IMAGE_SIZE)
    found = {}
    for name, size in (("one_at_a_time", 1), ("batches_of_16", 16)):
        batch = pixels[[at % len(pixels) for at in range(size)]]
        seconds = []
        for vit, share in ((binary, 1.0), (disease, 0.5)):
            times = []
            for _ in range(8):
                began = time.perf_counter()
                forward(vit, batch)
                times.append(time.perf_counter() - began)
            seconds.append(share * statistics.median(times) / size)
        found[name] = sum(seconds)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--films", type=int, default=120, help="of the sustained run (%(default)s)")
    parser.add_argument("--alone", type=int, default=20, help="of the run one after the other (%(default)s)")
    parser.add_argument("--heatmaps", default="", metavar="NAMES", help="a Secondary Capture for each of these")
    parser.add_argument("--pair", choices=("base", "small", "tiny"), default="base", help="(%(default)s)")
    chosen = parser.parse_args()
    os.environ.update(MALLOC)
    pngs = [path.read_bytes() for path in film_paths(NIH if NIH.exists() else SAMPLE, 16)]
    films = [as_dicom(png) for png in pngs]
    with tempfile.TemporaryDirectory(prefix="cxr-") as name:
        pair = make_pair(chosen.pair, Path(name) / chosen.pair, decoded(films, IMAGE_SIZE))
        print(json.dumps(measured(chosen, pair, [films[at] for at in pair.alternating()], Path(name)), indent=2))
    return 0


def measured(chosen: argparse.Namespace, pair: Pair, films: list[bytes], folder: Path) -> dict[str, Any]:
    workflow = Workflow()
    gateway = Gateway(workflow)
    (port,) = free_ports(1)
    archive = Archive(port)
    try:
        workflow.start(pair.at_share(50), folder / "server")
        gateway.start(pair.at_share(50), folder / "gateway")
        target, key = gateway.target(films), folder / "gateway" / "secrets" / "first.key"
        address = f"http://{target.host}:{target.port}"
        direct = straight(Client(address, key.read_text().strip()), films, chosen.alone)
        with node(folder / "node", address, key, port, chosen.heatmaps) as its:
            say("one after the other")
            alone = one_after_the_other(its, archive, numbered(films, chosen.alone + 2))[2:]
            say("as many as come")
            rate = sustained(its, archive, numbered(films, chosen.films))
    finally:
        archive.close()
        gateway.stop()
        workflow.stop()
    networks = models(pair, films)
    return {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "pair": f"ViT-{chosen.pair}/16, float32, half of the films routed",
        "film": f"DX, 2000 x 2000 px, {len(films[0]) / 1e6:.1f} MB",
        "heatmaps": chosen.heatmaps,
        "end_to_end_seconds": {"films": len(alone), "median": statistics.median(alone), "longest": max(alone)},
        "straight_to_the_gateway_seconds": {"films": len(direct), "median": statistics.median(direct)},
        "sustained_films_per_minute": {"films": chosen.films, "senders": SENDERS, "rate": rate},
        "models_seconds_per_film": networks,
        "models_share_one_after_the_other": networks["one_at_a_time"] / statistics.median(alone),
        "models_share_sustained": networks["batches_of_16"] * rate / 60.0,
    }


def straight(client: Client, films: Sequence[bytes], number: int) -> list[float]:
    """Seconds of each film by the gateway's own client, the first two left out."""
    seconds = []
    for at in range(number + 2):
        began = time.perf_counter()
        client.read(films[at % len(films)])
        seconds.append(time.perf_counter() - began)
    return seconds[2:]


if __name__ == "__main__":
    sys.exit(main())
