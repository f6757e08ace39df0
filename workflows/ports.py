"""The ports that a server is going to listen on are looked at before it starts: one that is taken, or cannot be had, is
named with its setting, its owner and what to do.

TorchServe has five, three for HTTP and two for gRPC. Its workers' are, on Linux and macOS, but numbers in the names of
Unix sockets, which lie in a folder of their own. The gateway's is the sixth.
"""

import errno
import re
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psutil

from workflows import jvm
from workflows.server import CONFIG_FILE, Server, ServerError, read_settings

LAST = 65535


@dataclass(frozen=True)
class Port:
    """A TCP port that something is going to listen on.

    Args:
        program: that is going to.
        host: address or name.
        number: of the port.
        setting: that names it, and where that stands.
        another: how to choose another.
    """

    program: str
    host: str
    number: int
    setting: str
    another: str


def of_torchserve(server: Server) -> list[Port]:
    """Every TCP port of ``config.properties``.

    Raises:
        ServerError: one is no port number.
    """
    settings = read_settings(server.folder)
    found = [("inference_address", *_split(server.inference)), ("management_address", *_split(server.management))]
    if _says(settings, "enable_metrics_api"):
        found.append(("metrics_address", *_split(server.metrics)))
    for api, usual in (("inference", "7070"), ("management", "7071")):
        host, name = settings.get(f"grpc_{api}_address", "127.0.0.1"), f"grpc_{api}_port"
        found.append((name, host, settings.get(name, usual)))
    file = server.folder / CONFIG_FILE
    ports = []
    for name, host, text in found:
        setting = f"{name} in {file}"
        ports.append(Port("TorchServe", host, port_number(text, setting), setting, f"give {name} another port"))
    return ports


def port_number(text: object, setting: str) -> int:
    """Raises ServerError, which names the setting, where ``text`` is no port."""
    if re.fullmatch("[0-9]{1,5}", str(text)) and 1 <= int(str(text)) <= LAST:
        return int(str(text))
    raise ServerError(f"{setting} is {text!r}, and no port: a number from 1 to {LAST}")


def require_free(ports: Sequence[Port], ours: Collection[int]) -> None:
    """Tries each port as its program will.

    Args:
        ports: all that will be listened on at once.
        ours: ids of processes that may have them: they stay, or are ended before.

    Raises:
        ServerError: one cannot be listened on, or two are the same.
    """
    for place, port in enumerate(ports):
        for other in ports[:place]:
            if other.number == port.number and jvm.overlap(other.host, port.host):
                raise ServerError(f"{other.setting} and {port.setting} are both {port.number}: {port.another}")
        try:
            _bind(port.host, port.number)
        except OSError as fault:
            owner = jvm.owner(port.host, port.number) if fault.errno == errno.EADDRINUSE else None
            if not _is_one_of(ours, owner):
                what = f"{port.program} cannot listen on {port.host}, port {port.number} ({port.setting})"
                raise ServerError(f"{what}: {_why(port, fault, owner)}") from None


def _is_one_of(ours: Collection[int], owner: psutil.Process | str | None) -> bool:
    return isinstance(owner, psutil.Process) and owner.pid in ours


def _bind(host: str, number: int) -> None:
    """Without listening: a client must not reach what is no server. Connections that were closed are no hindrance."""
    try:
        family, kind, protocol, _, address = min(socket.getaddrinfo(host, number, type=socket.SOCK_STREAM))
    except UnicodeError:  # a name with an empty or long part
        raise socket.gaierror(socket.EAI_NONAME, "no name") from None
    with socket.socket(family, kind, protocol) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(address)


def _why(port: Port, fault: OSError, owner: psutil.Process | str | None) -> str:
    if fault.errno == errno.EADDRINUSE:
        holder = f"{jvm.described(owner)} does; end it" if owner else "a connection has it for now; try again"
        return f"{holder}, or {port.another}"
    if fault.errno == errno.EADDRNOTAVAIL or isinstance(fault, socket.gaierror):
        return f"{port.host} is no address of this machine"
    if fault.errno == errno.EACCES:
        return f"this user may not have ports as low as that; {port.another}"
    return f"{fault.strerror or fault}; {port.another}"


def _split(address: str) -> tuple[str, str]:
    """Host and port of ``http://HOST:PORT``."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    return host, port


def _says(settings: dict[str, str], name: str) -> bool:
    return settings.get(name, "true").lower() == "true"
