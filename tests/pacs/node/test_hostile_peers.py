"""Peers that are unknown, hang, lie about sizes or send what is no film; and a disk that is full. The node goes on."""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from pydicom import Dataset
from pynetdicom.sop_class import (
    CTImageStorage,
    DigitalXRayImageStorageForProcessing,
    Verification,
)

from pacs.film_queue import State
from tests.gateway.conftest import Gateway
from tests.pacs.node.archive import Archive, encoded, ends
from tests.pacs.node.conftest import StartNode
from tests.pacs.node.process import PATIENCE, TITLE, Node
from tests.small_disk import SmallDisk

NewFilm = Callable[..., Dataset]
SILENT = 2.0
"""Seconds for which a peer may be silent here."""
REJECTED = (1, 1, 3)
"""Permanently, by the service user: calling AE title not recognised (PS3.8, 9.3.4)."""


@pytest.fixture(scope="module")
def node(start_node: StartNode, archive: Archive) -> Node:
    elsewhere = {"ae_title": "ELSEWHERE", "host": "127.0.0.1", "port": 1, "addresses": ["192.0.2.1"]}
    return start_node([archive.peer, elsewhere], timeout=SILENT)


@pytest.fixture(autouse=True)
def _goes_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each of them an honest film has its report."""
    yield
    if "node" in request.fixturenames:
        node, archive, new_film = (request.getfixturevalue(name) for name in ("node", "archive", "new_film"))
        film = new_film()
        assert archive.send(node, film) == 0x0000
        archive.report_of(film)


@pytest.mark.parametrize(
    ("calling", "called", "why"),
    [("NOBODY", TITLE, REJECTED), ("ELSEWHERE", TITLE, REJECTED), ("PACS", "OTHER", (1, 1, 7))],
    ids=["unknown AE", "known AE, unknown address", "another node is meant"],
)
def test_who_is_not_known_is_rejected(
    node: Node, archive: Archive, new_film: NewFilm, calling: str, called: str, why: tuple[int, int, int]
) -> None:
    line = archive.associate(node, title=called, calling=calling)
    assert line.is_rejected
    answer = line.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == why


def test_peers_that_hang_hold_up_nobody_and_are_hung_up_on(node: Node, archive: Archive, new_film: NewFilm) -> None:
    with ExitStack() as open_until_here:
        lines = []
        for sent in (b"", b"\x01", struct.pack(">BBL", 1, 0, 200) + b"half an association", b"GET / HTTP/1.1\r\n\r\n"):
            line = open_until_here.enter_context(socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE))
            line.sendall(sent)
            lines.append(line)
        idle = archive.associate(node)
        film = new_film()
        assert archive.send(node, film) == 0x0000
        archive.report_of(film)
        for line in lines:
            assert ends(line)
        limit = time.monotonic() + PATIENCE
        while not idle.is_aborted:
            assert time.monotonic() < limit


def test_a_pdu_that_promises_4_gb_is_answered_with_an_abort(node: Node, archive: Archive, new_film: NewFilm) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=PATIENCE) as line:
        line.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFF0) + bytes(1000))
        assert ends(line) == b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x06"


def test_a_data_set_whose_pixels_promise_4_gb_is_not_understood(
    node: Node, archive: Archive, new_film: NewFilm
) -> None:
    film = new_film()
    data = encoded(film)
    at = data.rindex(b"\xe0\x7f\x10\x00OW\0\0")
    promising = data[: at + 8] + struct.pack("<L", 0xFFFFFFF0) + data[at + 12 :]
    answer = archive.send_bytes(node, promising, film.SOPInstanceUID)
    assert answer.Status == 0xC000
    assert answer.ErrorComment.startswith("TruncatedImage: ")
    assert node.film(film) is None


def test_a_data_set_of_more_bytes_than_any_film_has_is_not_taken(
    node: Node, archive: Archive, new_film: NewFilm
) -> None:
    film = new_film()
    film.add_new((0x0009, 0x0010), "LO", "PRIVATE")
    film.add_new((0x0009, 0x1001), "OB", bytes(65 * 2**20))
    line = archive.associate(node)
    answer = line.send_c_store(film)
    line.release()
    assert answer.Status == 0xC000
    assert answer.ErrorComment == "a data set of over 64 MiB: no film is as large"
    assert node.film(film) is None


@pytest.mark.parametrize("left", [10, 500, -5000], ids=lambda left: f"{left} bytes")
def test_a_film_that_is_cut_short_is_not_understood(node: Node, archive: Archive, new_film: NewFilm, left: int) -> None:
    film = new_film()
    answer = archive.send_bytes(node, encoded(film)[:left], film.SOPInstanceUID)
    assert answer.Status == 0xC000
    assert node.film(film) is None


def test_a_ct_is_of_another_kind_whatever_it_is_called(node: Node, archive: Archive, new_film: NewFilm) -> None:
    line = archive.associate(node, CTImageStorage, DigitalXRayImageStorageForProcessing)
    assert [context.abstract_syntax for context in line.accepted_contexts] == [Verification]
    line.release()
    assert archive.send(node, new_film(Modality="CT")) == 0xA900
    disguised = new_film(SOPClassUID=CTImageStorage)
    answer = archive.send_bytes(node, encoded(disguised), disguised.SOPInstanceUID)
    assert answer.Status == 0xA900


def test_a_film_without_its_uids_or_with_a_path_for_one_is_not_understood(
    node: Node, archive: Archive, new_film: NewFilm
) -> None:
    for tag in ("StudyInstanceUID", "SOPInstanceUID"):
        film = new_film()
        del film[tag]
        answer = archive.send_bytes(node, encoded(film), "1.2.3")
        assert answer.Status == 0xC000
    climbing = new_film()
    path = b"../../../x".ljust(len(climbing.SOPInstanceUID), b"x")
    data = encoded(climbing).replace(climbing.SOPInstanceUID.encode(), path)
    assert archive.send_bytes(node, data, path.decode()).Status == 0xC000


def test_a_full_disk_is_out_of_resources_and_a_film_that_comes_later_is_taken(
    gateway: Gateway, archive: Archive, new_film: NewFilm, small_disk: SmallDisk, start_node: StartNode
) -> None:
    if not small_disk.mounted:
        pytest.skip("no disk can be mounted here")
    node = start_node([archive.peer], folder=small_disk.folder / "node")
    first, film, last = new_film(), new_film(), new_film()
    assert archive.send(node, first) == 0x0000
    node.wait_for(first, State.DELIVERED)
    small_disk.fill()
    assert archive.send(node, film) == 0xA700
    assert node.film(film) is None
    small_disk.clear()
    assert archive.send(node, film) == 0x0000
    archive.report_of(film)
    node.wait_for(film, State.DELIVERED)
    assert archive.send(node, last) == 0x0000
    node.wait_for(last, State.DELIVERED)
    assert node.stop() == 0
