"""TorchServe's processes: the JVM and its Python workers, started, found and ended."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from workflows import java, jvm, ports
from workflows.files.atomic import write_text
from workflows.server import (
    CONFIG_FILE,
    KEY_FILE,
    ForeignServer,
    Server,
    ServerDown,
    ServerError,
    WrongToken,
    read_settings,
)

TORCHSERVE = str(Path(sys.executable).with_name("torchserve"))
OURS = "CXR_TORCHSERVE"
"""Environment variable that holds the server's folder; the JVM hands it to its workers."""
MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**28)}
"""glibc's allocator for the workers (mallopt(3)). A heap per decoding thread would let memory creep up for hours; and
activations of some MB, mapped and unmapped at every layer, cost a tenth of a ViT's time in page faults."""
START_LIMIT = 60.0
"""Seconds until a started TorchServe must answer."""
EXIT_LIMIT = 2.0
"""Seconds from a JVM's broken connections to its end."""
LAUNCH_LIMIT = 3.0
"""Seconds until one that is started by hand must be seen."""
NO_CAUSE = (
    " ",
    "\t",
    "Traceback ",
    "Warning: TorchServe is using non-default JVM parameters",
    "WARNING: sun.reflect.Reflection.getCallerClass",
    "nvidia-smi not available",
    "Removing orphan pid file",
    "Model server started.",
)
"""Beginnings of lines that say nothing of why it ended: a trace's frames, and what it always says."""
LAST_LINES = 8
"""Of the others, that are shown."""
END_LIMIT = 20.0
"""Seconds for the JVM to end its workers and itself."""


def require_startable(server: Server) -> None:
    """Looks at what a TorchServe of this folder needs from the machine; one that runs may go on meanwhile.

    Raises:
        ServerError: no Java that will do, or a port that another program has.
    """
    java.require_java()
    ours = {process.pid for process in running(server)}
    ports.require_free(ports.of_torchserve(server), ours)
    ports.require_free_sockets(server, ours)


def start(server: Server) -> None:
    """Ends the TorchServe of this folder where one runs, starts it anew, and waits until it answers.

    Raises:
        ServerError: the machine lacks what it needs (then the one that runs goes on), or it ends, or does not answer.
    """
    require_startable(server)
    end(server)
    (server.folder / KEY_FILE).unlink(missing_ok=True)
    # TS_CONFIG_FILE and its like would override config.properties.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TS_")}
    environment = {
        **MALLOC,
        **environment,
        "JAVA_HOME": str(java.home().absolute()),
        OURS: str(server.folder.resolve()),
    }
    _remove_broken_pid_file()
    # The JVM outlives this process: it must hold neither our output nor our terminal's Ctrl-C.
    with _console(server).open("w") as output:
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
    started = jvm.search(server.folder)
    if not started:
        raise _other_torchserve(server) or ended(server)
    jvm.note(server.folder, started[0])
    wait_until_up(server, started[0])


def wait_until_up(server: Server, seen: psutil.Process | None = None) -> psutil.Process:
    """Waits until the server answers; returns its JVM.

    Args:
        seen: its JVM, where it is known; one that has ended by now cannot be found any more.

    Raises:
        ServerError: it has ended, or none was started, or another program has its port, all said at once; or it does
            not answer in ``START_LIMIT``.
    """
    began = time.monotonic()
    while True:
        if seen is None:
            seen = next(iter(jvm.of_folder(server.folder)), None)
        try:
            server.ping()
            if seen is not None:
                return seen
        except (ForeignServer, WrongToken):
            raise
        except ServerError as fault:
            waited = time.monotonic() - began
            if seen is not None and not jvm.runs(seen):
                raise ended(server, seen) from None
            if seen is None and waited > LAUNCH_LIMIT and not _comes(server):
                raise ServerDown(f"no TorchServe runs in {server.folder.resolve()}, and {fault}") from None
            if waited > START_LIMIT:
                raise ServerDown(
                    f"TorchServe is not up after {START_LIMIT:g} s (see {server.folder}/logs): {fault}"
                ) from None
        time.sleep(0.1)


@contextmanager
def cause_of_end(server: Server, process: psutil.Process) -> Iterator[None]:
    """Where a call in the block finds the server down because its JVM has ended, the error says why it has."""
    try:
        yield
    except ServerDown:
        psutil.wait_procs([process], timeout=EXIT_LIMIT)  # its connections break a moment before it is gone
        if jvm.runs(process):
            raise
        raise ended(server, process) from None


def ended(server: Server, process: psutil.Process | None = None) -> ServerDown:
    """What to say of a TorchServe that has ended by itself: its own last words.

    Args:
        process: its JVM, where it was seen; one that was started by hand has spoken to the terminal there.
    """
    if process is not None and not jvm.was_noted(server.folder, process):
        where = f"its cause stands where it was started, or in {server.folder}/logs"
        return ServerDown(f"the TorchServe that was started by hand has ended: {where}")
    lines = [line.rstrip() for line in _console(server).read_text(errors="replace").splitlines()]
    words = " ".join([line for line in lines if line and not line.startswith(NO_CAUSE)][-LAST_LINES:])
    if not words:
        full = shutil.disk_usage(server.folder).free < 2**20
        words = "the disk is full" if full else "it was killed from outside, or the machine ran out of memory"
    return ServerDown(f"TorchServe has ended: {words[:1000]}{setting_meant(server, words)} (see {_console(server)})")


def setting_meant(server: Server, words: str) -> str:
    """Which setting has a value that TorchServe cannot read, for the end of a sentence: it names the value alone."""
    value = re.search(r'For input string: \\?"([^"\\]+)', words)  # escaped in its JSON
    names = [name for name, text in read_settings(server.folder).items() if value and text == value[1]]
    return f" ({CONFIG_FILE}: {', '.join(names)})" if names else ""


def end(server: Server) -> None:
    """Ends the JVM and its workers, those that a killed JVM has left too, and waits until they have gone."""
    processes = running(server)
    unpacked = [*map(Path, _noted(server)), *_workers_folders(server)]
    for process in processes:
        if jvm.is_jvm(process):  # it ends its workers
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=END_LIMIT if any(map(jvm.is_jvm, processes)) else 0)
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=END_LIMIT)
    for folder in unpacked:
        shutil.rmtree(folder, ignore_errors=True)
    _note(server).unlink(missing_ok=True)
    jvm.forget(server.folder)
    (server.folder / KEY_FILE).unlink(missing_ok=True)


def running(server: Server) -> list[psutil.Process]:
    """The JVM that was started in the server's folder, by hand or by us, and its workers, with or without their JVM."""
    folder = server.folder.resolve()
    found = []
    for process in psutil.process_iter():
        try:
            if jvm.is_jvm(process) and jvm.works_in(process, folder):
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


def _console(server: Server) -> Path:
    """What the JVM says outside its log: why it does not start, above all."""
    return server.folder / "logs" / "console.log"


def _comes(server: Server) -> bool:
    """Whether a ``torchserve --start`` of this folder is on its way to its JVM, or has come to it by now."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            launcher = "torchserve" in (Path(word).name for word in process.cmdline()[:3])
            if launcher and jvm.works_in(process, server.folder):
                return True
    return bool(jvm.of_folder(server.folder))


def _other_torchserve(server: Server) -> ServerError | None:
    """TorchServe starts once for each temporary folder, whatever its ports."""
    if "already running" not in _console(server).read_text(errors="replace"):
        return None
    said = jvm.described(jvm.process_of(int(_pid_file().read_text())))
    return ServerError(
        f"{said} runs already, and a temporary folder can have one only ({_pid_file()}): end it, or give this one its "
        f"own ports in {CONFIG_FILE}, and its own TMPDIR and TEMP"
    )


def _remove_broken_pid_file() -> None:
    """An empty one, of a full disk say, would end TorchServe's start in a traceback."""
    with suppress(FileNotFoundError):
        if not _pid_file().read_text(errors="replace").strip().isdecimal():
            _pid_file().unlink()


def _pid_file() -> Path:
    """TorchServe's, which is in the way of another TorchServe with the same temporary folder."""
    folders = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return Path(next((folder for folder in folders if folder and Path(folder).is_dir()), "/tmp")) / ".model_server.pid"


def _noted(server: Server) -> list[str]:
    return _note(server).read_text().splitlines() if _note(server).exists() else []


def _note(server: Server) -> Path:
    return server.folder / "logs" / "unpacked"
