"""What the node is told: command line, environment (``CXR_PACS_PORT`` …) or a YAML file, in that order."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from handlers.findings import FINDINGS
from workflows.command_line import Fault

ALL_PRESENT = "all-present"
LONGEST_TITLE = 16
"""Of an application entity (PS3.5, 6.2: AE)."""


class SettingsError(Fault):
    """A setting cannot be; the message names it."""


@dataclass(frozen=True)
class Peer:
    """A DICOM application entity that may send films, and that reports may be stored to.

    Args:
        ae_title: its AE title.
        host: name or address of where it listens, and, unless ``addresses`` says otherwise, of where it calls from.
        port: TCP port of its storage SCP; 0 where it has none, as a modality that only sends.
        addresses: that it may call from.
        tls: whether it is called by TLS.
        commitment: whether it is asked to commit itself to what was stored, where it offers that.
    """

    ae_title: str
    host: str
    port: int = 0
    addresses: tuple[str, ...] = ()
    tls: bool = False
    commitment: bool = True


@dataclass(frozen=True)
class WebServer:
    """A DICOMweb server that films are pulled from, and reports are stored to.

    Args:
        name: what it is called in logs and metrics, and in ``deliver_to``; none that a peer has.
        url: of its service, as ``https://pacs/dicom-web``.
        user: for HTTP Basic; empty where it wants none.
        password_file: holds the password.
        since: first study date to look for, as 2026-11-28; empty: the day on which it is first asked.
        look_back: days before the mark in which a study may still turn up.
        pull: whether films are pulled; otherwise it only takes reports.
    """

    name: str
    url: str
    user: str = ""
    password_file: Path | None = None
    since: str = ""
    look_back: int = 2
    pull: bool = True


@dataclass(frozen=True)
class Tls:
    """TLS of the node's own port, and what it shows and trusts when it calls.

    Args:
        certificate: PEM file, with its chain.
        key: PEM file.
        authorities: PEM file of those who sign the peers' certificates, which every peer must show then.
    """

    certificate: Path
    key: Path
    authorities: Path


@dataclass(frozen=True)
class Settings:
    """One node.

    Args:
        ae_title: its AE title.
        host: address to listen on; the loopback alone unless told.
        port: TCP port.
        peers: who may send, and who may be stored to.
        web: DICOMweb servers.
        tls: without it films and reports travel unencrypted.
        deliver_to: AE title of a peer, or name of a DICOMweb server, that gets all reports; each one's sender unless
            told.
        heatmaps: of which findings a Secondary Capture goes with the report: ``all-present``, names with commas
            between them, or none.
        gateway: address of the gateway.
        key_file: holds the gateway's API key.
        folder: of the queue and the films.
        keep_days: that a film is kept after its report was delivered or it was refused.
        max_gb: that films and reports may take, in 10^9 bytes.
        min_free_gb: that are left free on the disk, in 10^9 bytes.
        timeout: seconds that a peer may be silent.
        stable_after: seconds without a new film after which a study is summed up.
        longest_pause: seconds between two tries of the same, at most; they begin at one and double.
        commit_within: seconds for a peer to commit itself to what was stored, before it is stored again.
        pull_every: seconds between two looks at a DICOMweb server.
        metrics_port: TCP port of the metrics, on ``metrics_host``.
        metrics_host: address to listen on for them.
    """

    ae_title: str = "CXR"
    host: str = "127.0.0.1"
    port: int = 11112
    peers: tuple[Peer, ...] = ()
    web: tuple[WebServer, ...] = ()
    tls: Tls | None = None
    deliver_to: str = ""
    heatmaps: str = ALL_PRESENT
    gateway: str = "http://127.0.0.1:8000"
    key_file: Path = Path("secrets/first.key")
    folder: Path = Path("pacs_node")
    keep_days: float = 7.0
    max_gb: float = 20.0
    min_free_gb: float = 1.0
    timeout: float = 30.0
    stable_after: float = 60.0
    longest_pause: float = 300.0
    commit_within: float = 3600.0
    pull_every: float = 30.0
    metrics_port: int = 9112
    metrics_host: str = "127.0.0.1"
    by_name: dict[str, Peer | WebServer] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Raises SettingsError."""
        for peer in self.peers:
            _require_title(peer.ae_title)
        _require_title(self.ae_title)
        named: list[tuple[str, Peer | WebServer]] = [(peer.ae_title, peer) for peer in self.peers]
        named += [(server.name, server) for server in self.web]
        for name, one in named:
            if name in self.by_name:
                raise SettingsError(f"two peers or DICOMweb servers are called {name!r}: give each a name of its own")
            self.by_name[name] = one
        if self.deliver_to and not self.takes_reports(self.deliver_to):
            raise SettingsError(f"deliver_to is {self.deliver_to!r}: no peer with a port, and no DICOMweb server")
        silent = [name for name in self.by_name if not self.deliver_to and not self.takes_reports(name)]
        if silent:
            raise SettingsError(f"{silent[0]} has no port that reports can be stored to: name another in deliver_to")
        unknown = set(self.wanted_heatmaps()) - {ALL_PRESENT, *FINDINGS}
        if unknown:
            raise SettingsError(f"heatmaps: {sorted(unknown)[0]!r} is no finding; there are {', '.join(FINDINGS)}")

    def takes_reports(self, name: str) -> bool:
        one = self.by_name.get(name)
        return isinstance(one, WebServer) or (one is not None and one.port > 0)

    def wanted_heatmaps(self) -> list[str]:
        return [name.strip() for name in self.heatmaps.split(",") if name.strip()]

    def server_tls(self) -> ssl.SSLContext | None:
        """Of the node's own port.

        Raises:
            SettingsError: a file cannot be read, or holds something else.
        """
        return self._context(ssl.Purpose.CLIENT_AUTH)

    def client_tls(self) -> ssl.SSLContext:
        """For peers that are called by TLS; raises SettingsError likewise."""
        context = self._context(ssl.Purpose.SERVER_AUTH)
        return context or ssl.create_default_context()

    def _context(self, purpose: ssl.Purpose) -> ssl.SSLContext | None:
        if self.tls is None:
            return None
        try:
            context = ssl.create_default_context(purpose, cafile=self.tls.authorities)
            context.load_cert_chain(self.tls.certificate, self.tls.key)
        except OSError as fault:  # ssl's own faults are such, too
            raise SettingsError(f"tls: {self.tls.certificate}, its key or {self.tls.authorities}: {fault}") from fault
        context.verify_mode = ssl.CERT_REQUIRED
        return context


def _require_title(title: str) -> None:
    printable = title.isascii() and title.isprintable() and "\\" not in title
    if not printable or not title.strip() or len(title) > LONGEST_TITLE:
        raise SettingsError(f"{title!r} is no AE title: up to {LONGEST_TITLE} ASCII characters, no backslash")


def parse_settings(
    arguments: Sequence[str] | None, prog: str, description: str, **flags: Any
) -> tuple[Settings, Namespace]:
    """The settings of ``python -m pacs.node``, and its other arguments.

    Raises:
        SettingsError: they cannot be.
    """
    parser = ArgumentParser(prog=prog, description=description, default_env=True, env_prefix="CXR_PACS")
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below")
    for name, options in flags.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **options)
    parser.add_class_arguments(Settings)
    parsed = parser.instantiate_classes(parser.parse_args(arguments))
    names = [name for name, each in Settings.__dataclass_fields__.items() if each.init]
    return Settings(**{name: getattr(parsed, name) for name in names}), parsed
