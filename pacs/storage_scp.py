"""The node's port: a storage SCP for chest films, of peers that are known (PS3.4, annex B), and C-ECHO."""

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from handlers.decoding.dicom import RADIOGRAPHS, SECONDARY_CAPTURES, UNCOMPRESSED
from handlers.decoding.frames import COMPRESSED
from pacs.association_limits import PDU_BYTES, Overlong, Server, bound_connection, bound_data_set
from pacs.reception import OVER, Answer, Reception
from pacs.settings import Peer, Settings, SettingsError

STORED = (*RADIOGRAPHS, *SECONDARY_CAPTURES)
"""SOP classes of films: a digitised film (RG) comes as CR or as a Secondary Capture. None for processing."""
ASSOCIATIONS = 16
"""At once; each may hold a film of 64 MiB in memory."""
REJECTED = (1, 1, 3)
"""An A-ASSOCIATE-RJ: permanent, by the user, calling AE title not recognised (PS3.8, 9.3.4)."""
NOT_HERE = Answer(0xC001, "the node is hindered, see its log")

logger = logging.getLogger(__name__)


class StorageScp:
    """Listens from ``start`` to ``stop``.

    Args:
        committed: handles what peers say of objects that they were asked to keep.
    """

    def __init__(
        self, settings: Settings, reception: Reception, committed: Callable[[evt.Event], tuple[int, None]]
    ) -> None:
        self._reception = reception
        self._peers = {peer.ae_title: peer for peer in settings.peers}
        self._ae = AE(settings.ae_title)
        self._ae.require_called_aet = True
        self._ae.maximum_associations, self._ae.maximum_pdu_size = ASSOCIATIONS, PDU_BYTES
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.network_timeout = settings.timeout
        for kind in STORED:
            self._ae.add_supported_context(kind, [*UNCOMPRESSED, *COMPRESSED])
        self._ae.add_supported_context(Verification)
        self._ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        handlers: list[evt.EventHandlerType] = [
            (evt.EVT_CONN_OPEN, bound_connection, [settings.timeout]),
            (evt.EVT_PDU_RECV, bound_data_set),
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_STORE, self._stored),
            (evt.EVT_N_EVENT_REPORT, committed),
        ]
        address = (settings.host, settings.port)
        try:
            self._server = self._ae.make_server(
                address, ssl_context=settings.server_tls(), evt_handlers=handlers, server_class=Server
            )
        except OSError as fault:
            raise SettingsError(f"cannot listen on {settings.host}, port {settings.port}: {fault.strerror}") from fault

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, name="storage SCP", daemon=True).start()

    def stop(self) -> None:
        """Films that are on their way here are not acknowledged: their senders have them."""
        self._server.shutdown()
        self._ae.shutdown()

    def _requested(self, event: evt.Event) -> None:
        """Who is not known, or calls from elsewhere, is not associated with."""
        request = event.assoc.requestor
        peer = self._peers.get(cast(A_ASSOCIATE, request.primitive).calling_ae_title.strip())
        if peer is None or request.address not in _addresses(peer):
            said = "an unknown AE title calls" if peer is None else f"{peer.ae_title} calls from an unknown address"
            logger.warning("%s: rejected", said, extra={"event": "rejected", "address": request.address})
            event.assoc.acse.send_reject(*REJECTED)
            event.assoc.is_rejected = True
            event.assoc.kill()

    def _stored(self, event: evt.Event) -> Dataset:
        request, answer = cast(C_STORE, event.request), NOT_HERE
        try:
            source = event.assoc.requestor.ae_title.strip()
            if isinstance(request.DataSet, Overlong):
                answer = OVER
                self._reception.refused(answer, source)
            else:
                answer = self._reception.take(
                    event.encoded_dataset(),
                    source,
                    str(request.AffectedSOPClassUID),
                    str(request.AffectedSOPInstanceUID),
                )
        except Exception as fault:
            logger.error("a film could not be taken", exc_info=fault, extra={"event": "reception_hindered"})
        status = Dataset()
        status.Status = answer.status
        if answer.comment:
            status.ErrorComment = answer.comment
        return status


def _addresses(peer: Peer) -> set[str]:
    """Those that a peer may call from; a name may come to stand for another address."""
    found = set()
    for name in peer.addresses or (peer.host,):
        with suppress(OSError):  # a name that is none now
            found |= {str(address[0]) for *_, address in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    return found
