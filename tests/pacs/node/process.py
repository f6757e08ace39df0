"""``python -m pacs.node`` in a process of its own, with its ports, folder and log."""

import json
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from benchmarks.arms.reserved_ports import free_ports
from pacs.film_queue import Film, FilmQueue, State, existing

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0
"""Seconds until a test that waits for an event gives up."""
TITLE = "CXR"
DEFAULTS: dict[str, Any] = {"longest_pause": 2.0, "stable_after": 1.0, "min_free_gb": 0.0, "pull_every": 0.5}


class Node:
    """One node; ``start`` after ``kill`` is the same one again.

    Args:
        scratch: for its configuration and log; its folder, unless the settings name another, is in it.
        peers: as in the configuration; so are the settings.
        client_tls: for those who call it by TLS.
    """

    def __init__(
        self,
        scratch: Path,
        gateway: str,
        key: str,
        peers: list[dict[str, Any]],
        client_tls: ssl.SSLContext | None = None,
        **settings: Any,
    ) -> None:
        self.port, self.metrics_port = settings.pop("port", None) or free_ports(1)[0], free_ports(1)[0]
        (scratch / "key").write_text(key)
        folder = settings.pop("folder", scratch / "node")
        told = {
            **DEFAULTS,
            "ae_title": TITLE,
            "port": self.port,
            "metrics_port": self.metrics_port,
            "folder": str(folder),
            "gateway": gateway,
            "key_file": str(scratch / "key"),
            "peers": peers,
            **settings,
        }
        self.folder, self.config, self._log = Path(folder), scratch / "node.yaml", scratch / "node.log"
        self.config.write_text(yaml.safe_dump(told))
        self._queue: FilmQueue | None = None
        self._tls = (client_tls, "127.0.0.1") if client_tls else None
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pacs.node", "--config", str(self.config)], cwd=ROOT, stdout=log, stderr=log
            )
        self.until(self.listens)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._close()

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        self._close()
        return code

    def _close(self) -> None:
        """What is open of it here, on a disk that may be unmounted."""
        if self._queue is not None:
            self._queue.close()
            self._queue = None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Its command with further words, beside it."""
        command = [sys.executable, "-m", "pacs.node", "--config", str(self.config), *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)

    @property
    def queue(self) -> FilmQueue:
        if self._queue is None:
            self._queue = existing(self.folder)
        return self._queue

    @property
    def log_text(self) -> str:
        return self._log.read_text()

    def lines(self, **fields: object) -> list[dict[str, Any]]:
        """Of its log, with these fields."""
        lines = [json.loads(line) for line in self.log_text.splitlines() if line.startswith("{")]
        return [line for line in lines if fields.items() <= line.items()]

    def metrics(self) -> str:
        return httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=PATIENCE, trust_env=False).text

    def listens(self) -> bool:
        """Whether it answers a C-ECHO or, to us a stranger, refuses one."""
        ae = AE("STRANGER")
        ae.add_requested_context(Verification)
        line = ae.associate("127.0.0.1", self.port, ae_title=TITLE, tls_args=self._tls)
        if line.is_established:
            line.release()
        return line.is_established or line.is_rejected

    def film(self, data_set: Dataset) -> Film | None:
        return self.queue.film(data_set.SOPInstanceUID)

    def wait_for(self, data_set: Dataset, state: State) -> Film:
        """Until a film is in a state."""
        self.until(lambda: (film := self.film(data_set)) is not None and film.state is state)
        film = self.film(data_set)
        assert film is not None
        return film

    def until(self, condition: Callable[[], bool], within: float = PATIENCE) -> None:
        """Asks again and again, for so many seconds at most."""
        limit, pause = time.monotonic() + within, threading.Event()
        while time.monotonic() < limit:
            assert self.process.poll() is None, self.log_text
            if condition():
                return
            pause.wait(0.02)
        raise AssertionError(f"did not happen within {within:g} s:\n{self.log_text[-4000:]}")
