"""A real PACS: Orthanc (Debian's ``orthanc`` and ``orthanc-dicomweb``) on loopback, in a process of its own."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from benchmarks.arms.reserved_ports import free_ports
from tests.pacs.node.process import PATIENCE, TITLE

PROGRAM = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
PLUGINS = [path for path in Path("/usr/share/orthanc/plugins").glob("libOrthancDicomWeb.so*") if path.exists()]
NAME = "ORTHANC"
ROUTE = """
function OnStoredInstance(instance, tags, metadata, origin)
  if tags['Modality'] ~= 'SR' then
    SendToModality(instance, 'node')
  end
end
"""
"""Auto-routing as its book shows it: of all that is no report, our own Secondary Captures included."""

MISSING = "NO PACS TESTS: no film went through a PACS. Install Orthanc ('apt-get install orthanc orthanc-dicomweb')"
INSTALLED = bool(PROGRAM and PLUGINS)


class Orthanc:
    """``start`` after ``kill`` is the same one again, on the same ports.

    Args:
        node: DICOM port of the node.
        routes: whether it sends films to the node by itself.
    """

    def __init__(self, scratch: Path, node: int, routes: bool = False) -> None:
        self.dicom_port, http = free_ports(2)
        self.url = f"http://127.0.0.1:{http}"
        self._folder = scratch
        (scratch / "route.lua").write_text(ROUTE)
        told = {
            "Name": "test",
            "StorageDirectory": str(scratch / "storage"),
            "IndexDirectory": str(scratch / "storage"),
            "HttpPort": http,
            "DicomPort": self.dicom_port,
            "DicomAet": NAME,
            "AuthenticationEnabled": False,
            "RemoteAccessAllowed": False,
            "DicomModalities": {"node": {"AET": TITLE, "Host": "127.0.0.1", "Port": node}},
            "LuaScripts": [str(scratch / "route.lua")] if routes else [],
            "Plugins": [str(path) for path in PLUGINS],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "DicomScuTimeout": 30,
            "ConcurrentJobs": 2,
        }
        (scratch / "orthanc.json").write_text(json.dumps(told))
        self._client = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False)
        self.start()

    @property
    def peer(self) -> dict[str, Any]:
        return {"ae_title": NAME, "host": "127.0.0.1", "port": self.dicom_port}

    def start(self) -> None:
        with (self._folder / "orthanc.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(PROGRAM), str(self._folder / "orthanc.json")], cwd=self._folder, stdout=log, stderr=log
            )
        self.until(lambda: self._client.get("/system").is_success)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def get(self, path: str) -> Any:
        answer = self._client.get(path)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, content: Any) -> Any:
        kind = {"content": content} if isinstance(content, bytes) else {"json": content}
        answer = self._client.post(path, **kind)
        answer.raise_for_status()
        return answer.json()

    def file(self, instance: str) -> bytes:
        return self._client.get(f"/instances/{instance}/file").content

    def find(self, level: str, **query: str) -> list[str]:
        """Orthanc's ids of what matches, by its REST interface."""
        return self.post("/tools/find", {"Level": level, "Query": query})

    def reports(self) -> list[str]:
        """All SRs that it has."""
        return [
            one for series in self.find("Series", Modality="SR") for one in self.get(f"/series/{series}")["Instances"]
        ]

    def until(self, condition: Callable[[], bool], within: float = PATIENCE) -> None:
        """Asks again and again, for so many seconds at most."""
        limit, pause = time.monotonic() + within, threading.Event()
        while time.monotonic() < limit:
            assert self.process.poll() is None, (self._folder / "orthanc.log").read_text()
            try:
                if condition():
                    return
            except httpx.TransportError:
                pass
            pause.wait(0.02)
        raise AssertionError(f"did not happen within {within:g} s")
