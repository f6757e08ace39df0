"""What a peer may do to the node's port: how long it may be silent, and how much it may send.

pynetdicom reads what a PDU says that it holds, up to 4 GB, for as long as that takes, and shakes hands by TLS in the
thread that accepts connections; a data set it keeps in memory, however large. These are its hooks for all three.
"""

import socket
import time
from functools import partial
from io import BytesIO
from socketserver import BaseServer
from typing import cast

from pynetdicom import evt
from pynetdicom.transport import AssociationSocket, ThreadedAssociationServer

from handlers.refusals import MAX_BYTES

PDU_BYTES = 128 * 1024
"""That the node asks its peers to keep to (PS3.8, D.1)."""
LONGEST_PDU = 2 * PDU_BYTES
"""That it reads: negotiation, too, which no limit is agreed for."""
ABORT = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x06"
"""A-ABORT by the service provider: invalid PDU parameter value (PS3.8, 9.3.8)."""
AT_ONCE = 65_536
DRAINED = 8 * MAX_BYTES
"""Of a data set that is too large: read and thrown away, so that its sender gets a status; beyond it is hung up on."""


class Server(ThreadedAssociationServer):
    """Shakes hands by TLS in each connection's own thread, within its own time."""

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = cast(socket.socket, self.socket).accept()
        if self.ssl_context:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def shutdown(self) -> None:
        BaseServer.shutdown(self)  # pynetdicom's wants to be started by its own method
        self.server_close()


class Overlong(BytesIO):
    """In place of a data set that has become too large: what comes then is thrown away, and counted."""

    thrown = 0

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self.thrown += len(data)
        return len(data)


def bound_connection(event: evt.Event, seconds: float) -> None:
    """EVT_CONN_OPEN: each PDU has so many seconds from its first byte to its last."""
    line = cast(AssociationSocket, event.assoc.dul.socket)
    line.recv = partial(_receive, line, seconds)  # type: ignore[method-assign]


def bound_data_set(event: evt.Event) -> None:
    """EVT_PDU_RECV: a data set that has grown too large grows no more."""
    message = event.assoc.dimse.message
    if message is None or not isinstance(message.data_set, BytesIO):
        return
    if isinstance(message.data_set, Overlong):
        if message.data_set.thrown > DRAINED:
            event.assoc.abort(block=False)
    elif message.data_set.tell() > MAX_BYTES:
        message.data_set = Overlong()


def _receive(line: AssociationSocket, seconds: float, number: int) -> bytearray:
    """``number`` bytes, or fewer where the peer hangs up. An OSError ends the association."""
    assert line.socket is not None
    if number > LONGEST_PDU:
        line.send(ABORT)
        raise ConnectionAbortedError("a PDU longer than was agreed")
    end, received = time.monotonic() + seconds, bytearray()
    while len(received) < number:
        line.socket.settimeout(max(0.001, end - time.monotonic()))
        piece = line.socket.recv(min(AT_ONCE, number - len(received)))
        if not piece:
            break
        received += piece
    line.socket.settimeout(seconds)
    return received
