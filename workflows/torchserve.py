"""TorchServe's processes: the JVM and its Python workers, started as children of this process, found and ended."""

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
from filelock import FileLock

import workflows
from workflows import java, jvm, ports
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

ROOT = Path(workflows.__path__[0]).parent
FOREGROUND = "workflows.foreground"
"""The child's module, by which it is known."""
Child = subprocess.Popen[bytes]
MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**28)}
"""glibc's allocator for the workers (mallopt(3)). A heap per decoding thread would let memory creep up for hours; and
activations of some MB, mapped and unmapped at every layer, cost a tenth of a ViT's time in page faults."""
START_LIMIT = 60.0
"""Seconds until a started TorchServe must answer."""
EXIT_LIMIT = 2.0
"""Seconds from a JVM's broken connections to its end."""
LAUNCH_LIMIT = 5.0
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
END_LIMIT = 60.0
"""Seconds for TorchServe to end, before it is killed: three times what its own child gives it."""


def start(server: Server) -> Child:
    """Starts TorchServe anew as a child of this process, and returns when it answers. It ends when this process ends.

    Raises:
        ServerError: the machine lacks what it needs (then the one that runs goes on), or it ends, or does not answer.
    """
    child = launch(server)
    try:
        wait_until_started(server, child)
    except BaseException:
        stop(child)
        raise
    return child


def launch(server: Server) -> Child:
    """Ends the TorchServe of this folder where one runs, and starts another; ``wait_until_started`` waits for it.

    Raises:
        ServerError: no Java that will do, or a port that another program has; then the one that runs goes on.
    """
    java.require_java()
    ports.require_free(ports.of_torchserve(server), {process.pid for process in running(server)})
    end(server)
    # TS_CONFIG_FILE and its like would override config.properties.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TS_")}
    with _console(server).open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", FOREGROUND, str(server.folder.resolve()), str(os.getpid())],
            cwd=ROOT,
            env={**MALLOC, **inherited, "JAVA_HOME": str(java.home().absolute())},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C is its parent's to act on
        )


def wait_until_started(server: Server, child: Child) -> None:
    """Returns when the TorchServe of ``launch`` answers.

    Raises:
        ServerError: it ends, or does not answer.
    """
    while child.poll() is None:
        with suppress(psutil.Error):
            if started := [one for one in psutil.Process(child.pid).children() if jvm.is_jvm(one)]:
                jvm.note(server.folder, started[0])
                wait_until_up(server, started[0])
                return
        time.sleep(0.05)
    raise ended(server)


def stop(child: Child) -> None:
    """Ends what ``start`` has started, and waits until nothing of it is left."""
    child.terminate()
    child.wait()


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
            if seen is None and waited > LAUNCH_LIMIT:
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
        if jvm.still_running([process], EXIT_LIMIT):  # its connections break a moment before it is gone
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
    """Ends the TorchServe of this folder, whoever started it, and waits until it has gone."""
    for process in _jvms(server):
        first = _parent(process) or process
        processes = [first, *_tree(process)]
        with suppress(psutil.NoSuchProcess):
            first.terminate()
        jvm.still_running([first], END_LIMIT)
        for one in processes:  # the first has ended the others, unless it was killed
            with suppress(psutil.NoSuchProcess):
                one.kill()
        jvm.still_running(processes, END_LIMIT)
    jvm.forget(server.folder)
    (server.folder / KEY_FILE).unlink(missing_ok=True)


def running(server: Server) -> list[psutil.Process]:
    """The JVM of this folder, started by hand or as a child of ours, and its workers."""
    return [one for process in _jvms(server) for one in _tree(process)]


def is_left_over(server: Server) -> bool:
    """Whether one runs that ``start`` has started and whose parent was killed: nobody would end it."""
    return any(jvm.was_noted(server.folder, process) and _parent(process) is None for process in _jvms(server))


def held(server: Server) -> FileLock:
    """One process at a time starts a server or changes its store; another waits here until that one is done."""
    logs = server.folder / "logs"
    logs.mkdir(exist_ok=True)
    return FileLock(logs / "torchserve.lock")


def _jvms(server: Server) -> list[psutil.Process]:
    return [process for process in jvm.of_folder(server.folder) if jvm.is_jvm(process)]


def _tree(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return [process]


def _parent(process: psutil.Process) -> psutil.Process | None:
    """The ``workflows.foreground`` that has started a JVM."""
    with suppress(psutil.Error):
        parent = process.parent()
        if parent is not None and FOREGROUND in parent.cmdline():
            return parent
    return None


def _console(server: Server) -> Path:
    """What the JVM says outside its log: why it does not start, above all."""
    return server.folder / "logs" / "console.log"
