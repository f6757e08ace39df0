"""Films and reports by TLS, for those alone who show a certificate of the hospital's."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom import Dataset

from benchmarks.arms.reserved_ports import free_ports
from pacs.film_queue import State
from tests.pacs.node.archive import Archive, ends
from tests.pacs.node.conftest import StartNode
from tests.pacs.node.process import PATIENCE, Node

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A key, its certificate, and who has signed that: itself."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=node -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *words.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return {"certificate": str(certificate), "key": str(key), "authorities": str(certificate)}


@pytest.fixture(scope="module")
def known(files: dict[str, str]) -> Iterator[Archive]:
    """A PACS with that certificate."""
    contexts = {}
    for side, purpose in (("server", ssl.Purpose.CLIENT_AUTH), ("client", ssl.Purpose.SERVER_AUTH)):
        contexts[side] = ssl.create_default_context(purpose, cafile=files["authorities"])
        contexts[side].load_cert_chain(files["certificate"], files["key"])
        contexts[side].verify_mode = ssl.CERT_REQUIRED
    one = Archive("PACS", free_ports(1)[0], tls=contexts).open()
    yield one
    one.close()


@pytest.fixture(scope="module")
def node(files: dict[str, str], known: Archive, start_node: StartNode) -> Node:
    return start_node([known.peer], tls=files, client_tls=known.tls["client"], timeout=5.0)


def test_a_film_and_its_report_travel_by_tls(node: Node, known: Archive, new_film: Callable[..., Dataset]) -> None:
    film = new_film()
    assert known.send(node, film) == 0x0000
    known.report_of(film)
    node.wait_for(film, State.DELIVERED)


@pytest.mark.parametrize("speaks", ["plain text", "TLS without a certificate"])
def test_who_shows_no_certificate_is_not_listened_to(
    node: Node, known: Archive, files: dict[str, str], speaks: str
) -> None:
    contexts = {"client": ssl.create_default_context(cafile=Path(files["authorities"]))}
    stranger = Archive("PACS", 1, tls=contexts if "TLS" in speaks else None)
    assert not stranger.associate(node).is_established


def test_a_peer_that_hangs_in_the_handshake_holds_up_nobody(
    node: Node, known: Archive, new_film: Callable[..., Dataset]
) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE) as line:
        line.sendall(b"\x16\x03\x01")
        film = new_film()
        assert known.send(node, film) == 0x0000
        known.report_of(film)
        assert ends(line) == b"hung up"
