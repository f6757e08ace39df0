"""The JVM of a folder's TorchServe: which process it is, and whether it is what listens on a port.

Another program may have taken the port, and may say what TorchServe says; a token for it would be a token lost. Who
listens is the kernel's word, which cannot be forged. A process of another user is not seen so far as to be known, but
then its key file (mode 600) cannot be read either.
"""

import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from workflows.files.atomic import write_text

MAIN_CLASS = "org.pytorch.serve.ModelServer"
EVERY_ADDRESS = ("0.0.0.0", "::")


def of_folder(folder: Path) -> list[psutil.Process]:
    """The one that was noted, where it still runs; else those that have ``folder`` as their working directory."""
    noted = _noted(folder)
    return [noted] if noted else [one for one in psutil.process_iter() if is_jvm(one) and _works_in(one, folder)]


def is_jvm(process: psutil.Process) -> bool:
    """Whether it is any TorchServe's."""
    try:
        return MAIN_CLASS in process.cmdline()
    except psutil.Error:
        return False


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended; one whose parent does not wait for it stays in the list of processes."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def still_running(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that have not ended after so many seconds; returns as soon as all have."""
    limit = time.monotonic() + seconds
    while (left := [process for process in processes if runs(process)]) and time.monotonic() < limit:
        time.sleep(0.05)
    return left


def started(process: psutil.Process) -> str:
    """When it started, which with its id tells it from all others, and which a step of the system's clock leaves alone.

    On Linux a time of day is reckoned from the boot's, which moves with the clock: it is the boot's id and clock ticks
    since (proc_pid_stat(5), field 22). Elsewhere the kernel keeps the moment itself.

    Raises:
        OSError, psutil.Error: it has ended.
    """
    if sys.platform != "linux":
        return repr(process.create_time())
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    # The second field, the program's name, may hold spaces and parentheses.
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return f"{boot}:{fields[19]}"


def note(folder: Path, process: psutil.Process) -> None:
    """Keeps which process the folder's TorchServe is, so that it need not be searched for at each connection."""
    write_text(_note(folder), f"{process.pid} {started(process)}\n")


def forget(folder: Path) -> None:
    """It has been ended."""
    _note(folder).unlink(missing_ok=True)


def was_noted(folder: Path, process: psutil.Process) -> bool:
    """Whether ``torchserve.start`` has started it: what it says goes to ``logs/console.log`` then."""
    return _note(folder).exists() and _note(folder).read_text().split()[:1] == [str(process.pid)]


def listens(process: psutil.Process, host: str, port: int) -> bool:
    """Whether a connection to that address reaches this process."""
    try:
        sockets = process.net_connections("tcp")
    except psutil.Error:
        return False
    return any(one.status == psutil.CONN_LISTEN and _reached(one.laddr, host, port) for one in sockets)


def owner(host: str, port: int) -> psutil.Process | str | None:
    """What holds a port: a process, or words where it cannot be seen; None where nothing listens there."""
    try:
        sockets = [one for one in psutil.net_connections("tcp") if one.laddr and _reached(one.laddr, host, port)]
    except psutil.AccessDenied:  # macOS shows them to root alone
        return "a program that only root can see"
    listening = [one for one in sockets if one.status == psutil.CONN_LISTEN]
    if not listening:
        return None
    return process_of(next((one.pid for one in listening if one.pid), None))


def process_of(pid: int | None) -> psutil.Process | str:
    """A process, or words where the system does not say which it is."""
    with suppress(psutil.NoSuchProcess):
        if pid:
            return psutil.Process(pid)
    return "a program of another user"


def described(process: psutil.Process | str) -> str:
    """For a message: what it is, and its process id, by which it can be ended."""
    if not isinstance(process, psutil.Process):
        return process
    try:
        command = " ".join(" ".join(process.cmdline()).split()) or process.name()
        said = f"the TorchServe of {process.cwd()}" if is_jvm(process) else command[:100]
    except psutil.Error:
        said = "a program that cannot be looked at"
    return f"process {process.pid} ({said})"


def overlap(one: str, other: str) -> bool:
    """Whether two programs cannot listen on the same port at these two addresses."""
    return bool({one, other}.intersection(EVERY_ADDRESS)) or not _addresses(one).isdisjoint(_addresses(other))


def _reached(address: Any, host: str, port: int) -> bool:
    # Java listens on IPv4 through IPv6.
    return address[1] == port and overlap(str(address[0]).removeprefix("::ffff:"), host)


def _addresses(host: str) -> set[str]:
    try:
        return {host, *(str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))}
    except (OSError, UnicodeError):
        return {host}


def _works_in(process: psutil.Process, folder: Path) -> bool:
    with suppress(psutil.Error):  # its working directory cannot be seen
        return Path(process.cwd()) == folder.resolve()
    return False


def _noted(folder: Path) -> psutil.Process | None:
    try:
        pid, start = _note(folder).read_text().split()
        process = psutil.Process(int(pid))
        # A process id comes to be another program's.
        return process if started(process) == start and runs(process) else None
    except (OSError, ValueError, psutil.Error):
        return None


def _note(folder: Path) -> Path:
    return folder / "logs" / "torchserve.pid"
