"""A PACS of pynetdicom in this process: it sends films, keeps reports, and can be away, refuse, or commit itself."""

import socket
import ssl
import threading
from collections import Counter
from io import BytesIO

from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, Association, build_role, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    SecondaryCaptureImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from tests.pacs.node.process import PATIENCE, TITLE, Node

KEPT = (ComprehensiveSRStorage, SecondaryCaptureImageStorage)


class Archive:
    """AE ``title`` on ``port``; listens from ``open`` to ``close``.

    Args:
        commits: whether it offers storage commitment.
        tls: contexts, where it speaks TLS: ``server``, and ``client`` for its calls.

    Attributes:
        objects: what it keeps, by SOP Instance UID.
        times: how often each was stored.
        refuses: statuses of the next C-STOREs; 0 keeps.
        asked: requests for commitment.
    """

    def __init__(
        self, title: str, port: int, commits: bool = False, tls: dict[str, ssl.SSLContext] | None = None
    ) -> None:
        self.title, self.port, self.tls = title, port, tls or {}
        self.objects: dict[str, Dataset] = {}
        self.times: Counter[str] = Counter()
        self.refuses: list[int] = []
        self.asked: list[Dataset] = []
        self.changed = threading.Condition()
        self._ae = AE(title)
        for kind in KEPT:
            self._ae.add_supported_context(kind)
        if commits:
            self._ae.add_supported_context(StorageCommitmentPushModel)
        self._server = None

    @property
    def peer(self) -> dict[str, object]:
        return {"ae_title": self.title, "host": "127.0.0.1", "port": self.port, "tls": bool(self.tls)}

    def open(self) -> "Archive":
        handlers = [(evt.EVT_C_STORE, self._keep), (evt.EVT_N_ACTION, self._asked)]
        self._server = self._ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers, ssl_context=self.tls.get("server")
        )
        return self

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _keep(self, event: evt.Event) -> int:
        with self.changed:
            if self.refuses and (status := self.refuses.pop(0)):
                self.changed.notify_all()
                return status
            data_set = event.dataset
            data_set.file_meta = event.file_meta
            self.objects[data_set.SOPInstanceUID] = data_set
            self.times[data_set.SOPInstanceUID] += 1
            self.changed.notify_all()
        return 0x0000

    def _asked(self, event: evt.Event) -> tuple[int, None]:
        with self.changed:
            self.asked.append(event.action_information)
            self.changed.notify_all()
        return 0x0000, None

    def wait_until(self, condition) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE), f"{len(self.objects)} objects"

    def reports_of(self, film: Dataset) -> list[Dataset]:
        """SRs whose evidence is the film."""
        return [sr for sr in self.objects.values() if film.SOPInstanceUID in evidence(sr)]

    def report_of(self, film: Dataset) -> Dataset:
        """The one SR, once it is there."""
        self.wait_until(lambda: self.reports_of(film))
        (report,) = self.reports_of(film)
        return report

    def associate(self, node: Node, *kinds: str, title: str = TITLE, calling: str | None = None) -> Association:
        ae = AE(calling or self.title)
        ae.dimse_timeout = ae.network_timeout = ae.acse_timeout = PATIENCE
        for kind in kinds or (ComputedRadiographyImageStorage, SecondaryCaptureImageStorage):
            ae.add_requested_context(kind, ExplicitVRLittleEndian)
        ae.add_requested_context(Verification)
        tls = (self.tls["client"], "127.0.0.1") if self.tls else None
        return ae.associate("127.0.0.1", node.port, ae_title=title, tls_args=tls)

    def send(self, node: Node, film: Dataset) -> int:
        """A film; the status of its C-STORE."""
        line = self.associate(node)
        assert line.is_established
        status = line.send_c_store(film)
        line.release()
        return int(status.Status)

    def send_bytes(self, node: Node, data: bytes, uid: str) -> Dataset:
        """A data set as it is, broken or not; the C-STORE's answer."""
        line = self.associate(node)
        assert line.is_established
        context = next(one for one in line.accepted_contexts if one.abstract_syntax == ComputedRadiographyImageStorage)
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = ComputedRadiographyImageStorage, uid
        request.DataSet = BytesIO(data)
        line._reactor_checkpoint.clear()  # as send_c_store does
        line.dimse.send_msg(request, context.context_id)
        _, answer = line.dimse.get_msg(block=True)
        line._reactor_checkpoint.set()
        assert answer is not None, "no answer"
        said = Dataset()
        said.Status, said.ErrorComment = answer.Status, answer.ErrorComment or ""
        line.release()
        return said

    def commit(self, node: Node, request: Dataset, lost: int = 0) -> None:
        """Says of the objects of a request that they are kept, but for the first ``lost``."""
        items = list(request.ReferencedSOPSequence)
        said = Dataset()
        said.TransactionUID = request.TransactionUID
        said.ReferencedSOPSequence = items[lost:]
        if lost:
            said.FailedSOPSequence = items[:lost]
            for item in said.FailedSOPSequence:
                item.FailureReason = 0x0112
        ae = AE(self.title)
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        line = ae.associate("127.0.0.1", node.port, ae_title=TITLE, ext_neg=[role])
        assert line.is_established
        status, _ = line.send_n_event_report(
            said, 2 if lost else 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        line.release()
        assert status.Status == 0x0000


def evidence(report: Dataset) -> set[str]:
    """SOP Instance UIDs of what a report rests on."""
    studies = report.get("CurrentRequestedProcedureEvidenceSequence") or []
    return {
        item.ReferencedSOPInstanceUID
        for study in studies
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def encoded(film: Dataset) -> bytes:
    """Its data set alone, in explicit little endian, whatever it lacks."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, film)
    return bytes(buffer.getvalue())


def ends(line: socket.socket) -> bytes:
    """What the node says until it hangs up, which it does; b"hung up" where it says nothing."""
    said = b""
    try:
        while piece := line.recv(4096):
            said += piece
    except ConnectionResetError:
        pass
    return said or b"hung up"
