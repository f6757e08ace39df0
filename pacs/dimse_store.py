"""Reports to a DICOM peer: C-STORE of a film's objects, and its word that it keeps them (PS3.4, annexes B and J)."""

import logging
import threading
from collections.abc import Iterable

from pydicom import Dataset, dcmread, uid
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance  # type: ignore[attr-defined]

from pacs.delivery import Away, Concluded
from pacs.film_files import object_files
from pacs.film_queue import Film, FilmQueue
from pacs.settings import Peer, Settings

SUCCESS, DUPLICATE = 0x0000, 0x0111
"""Of a C-STORE; some archives say the latter to an object that they have."""
WARNINGS = range(0xB000, 0xC000)
REQUEST_COMMITMENT = 1
"""The action, and the event that all is kept; 2 is that some is not (PS3.4, J.3.2 and J.3.3)."""
CONTEXTS_AT_ONCE = 126
"""Of one association, beside that of the commitment; an odd number of 8 bits each (PS3.8, 9.3.2.2)."""

logger = logging.getLogger(__name__)


class DimseStore:
    """Stores at one peer."""

    def __init__(self, settings: Settings, queue: FilmQueue, peer: Peer, commitments: "Commitments") -> None:
        self._settings, self._queue, self._peer, self._commitments = settings, queue, peer, commitments
        self._ae = AE(settings.ae_title)
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.network_timeout = settings.timeout
        self._ae.connection_timeout = settings.timeout
        self._tls = (settings.client_tls(), peer.host) if peer.tls else None

    def store(self, films: list[Film], concluded: Concluded) -> None:
        """See ``pacs.delivery.Store``."""
        line = self._associated(films)
        try:
            committing = self._peer.commitment and any(
                context.abstract_syntax == StorageCommitmentPushModel for context in line.accepted_contexts
            )
            stored = []
            for film in films:
                failure = self._store_one(line, film)
                if failure or not committing:
                    concluded(film, failure)
                else:
                    stored.append(film)
            if stored:
                self._ask(line, stored, concluded)
        finally:
            if line.is_established:
                line.release()

    def _associated(self, films: Iterable[Film]) -> Association:
        kinds = set()
        for film in films:
            for file in object_files(self._settings.folder, film.sop_uid):
                meta = read_file_meta_info(file)
                kinds.add((meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID))
        contexts = [_context(kind, syntax) for kind, syntax in sorted(kinds)][:CONTEXTS_AT_ONCE]
        contexts.append(build_context(StorageCommitmentPushModel))
        peer = self._peer
        handlers: list[evt.EventHandlerType] = [(evt.EVT_N_EVENT_REPORT, self._commitments.reported)]
        try:
            line = self._ae.associate(
                *(peer.host, peer.port, contexts), ae_title=peer.ae_title, tls_args=self._tls, evt_handlers=handlers
            )
        except OSError:  # a name that is none now
            raise Away(f"{peer.ae_title} at {peer.host} has no address") from None
        if not line.is_established:
            why = "refuses the association" if line.is_rejected else "does not answer"
            raise Away(f"{peer.ae_title} at {peer.host}, port {peer.port}, {why}")
        return line

    def _store_one(self, line: Association, film: Film) -> str:
        """Why a film's objects are not stored, or ""; raises Away where the association has ended."""
        files = object_files(self._settings.folder, film.sop_uid)
        for file in files:
            data_set = dcmread(file)
            kind = uid.UID(data_set.SOPClassUID).name
            try:
                status = line.send_c_store(data_set)
            except ValueError:  # no presentation context
                return f"{self._peer.ae_title} takes no {kind}"
            except RuntimeError:  # no association any more
                raise Away(f"{self._peer.ae_title} has ended the association") from None
            if "Status" not in status:
                raise Away(f"{self._peer.ae_title} has not answered to a C-STORE")
            if status.Status not in (SUCCESS, DUPLICATE) and status.Status not in WARNINGS:
                return f"{self._peer.ae_title} refuses the {kind}: status {status.Status:04X}"
        return "" if files else "its objects are not on the disk any more"

    def _ask(self, line: Association, films: list[Film], concluded: Concluded) -> None:
        """For the peer's word, which comes by another association; the films wait for it from before it is asked."""
        transaction = uid.generate_uid(prefix=None)
        self._queue.await_commitment(films, transaction, self._settings.commit_within)
        request = Dataset()
        request.TransactionUID = transaction
        request.ReferencedSOPSequence = []
        for instance, (kind, _) in self._queue.objects_of(films).items():
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = kind, instance
            request.ReferencedSOPSequence.append(item)
        try:
            status, _ = line.send_n_action(
                request, REQUEST_COMMITMENT, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        except RuntimeError:  # no association any more
            status = Dataset()
        if "Status" not in status:
            self._queue.await_commitment(films, None, 0.0)
            raise Away(f"{self._peer.ae_title} has not answered when asked to commit itself")
        if status.Status != SUCCESS:
            said = f"{self._peer.ae_title} offers storage commitment and gives none (status {status.Status:04X})"
            logger.warning(said, extra={"event": "no_commitment", "ae": self._peer.ae_title})
            for film in films:
                concluded(film, "")


class Commitments:
    """What peers say of the objects that they were asked to keep."""

    def __init__(self, queue: FilmQueue, concluded: Concluded) -> None:
        self._queue, self._concluded = queue, concluded
        self._turn = threading.Lock()

    def reported(self, event: evt.Event) -> tuple[int, None]:
        """An N-EVENT-REPORT, on an association of whoever opened it."""
        said = event.event_information
        kept = {item.ReferencedSOPInstanceUID for item in said.get("ReferencedSOPSequence") or []}
        ae = event.assoc.remote["ae_title"]
        with self._turn:
            films = self._queue.committing(str(said.TransactionUID))
            objects = self._queue.objects_of(films)
            fields = {"event": "committed", "ae": ae, "films": len(films), "kept": len(kept)}
            logger.info("%s says what it keeps", ae, extra=fields)
            for film in films:
                lost = [one for one, (_, owner) in objects.items() if owner == film.id and one not in kept]
                self._concluded(film, f"{ae} has not kept {len(lost)} of its objects" if lost else "")
        return SUCCESS, None


def _context(kind: uid.UID, syntax: uid.UID) -> PresentationContext:
    """Uncompressed objects are sent in either form."""
    if syntax.is_compressed:
        return build_context(kind, syntax)
    return build_context(kind, [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
