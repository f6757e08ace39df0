"""A film comes in, by whatever way: looked at, on the disk, in the queue; only then it is taken."""

import hashlib
import logging
import shutil
import sqlite3
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom.uid import UID

from handlers.decoding.dicom import check_dicom
from handlers.refusals import MAX_BYTES, RefusedFilm
from pacs.film_files import film_file
from pacs.film_queue import Film, FilmQueue
from pacs.settings import Settings
from workflows.files.atomic import NotWritten, says_full, written

GB = 10**9
UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")
PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName")
"""What says whose film it is. It does not leave the file."""

logger = logging.getLogger(__name__)


class Answer(NamedTuple):
    """A C-STORE's status (PS3.4, B.2.3), and its comment: under 64 characters, and no value of the film's."""

    status: int
    comment: str = ""

    @property
    def taken(self) -> bool:
        return self.status == TAKEN.status


TAKEN = Answer(0x0000)
FULL = Answer(0xA700, "out of resources: no room for films, send it later")
ANOTHER_KIND = 0xA900
NOT_UNDERSTOOD = 0xC000
OVER = Answer(NOT_UNDERSTOOD, f"a data set of over {MAX_BYTES >> 20} MiB: no film is as large")


class Reception:
    """Takes films into the node's folder, for any number of threads.

    Args:
        make_room: removes films that have ended before their age, until so many bytes are free; it may not get so far.
        told: called for each film that is not taken, with its source and the status.
    """

    def __init__(
        self,
        settings: Settings,
        queue: FilmQueue,
        make_room: Callable[[float], None],
        told: Callable[[str, str], None],
    ) -> None:
        self._settings, self._queue, self._make_room, self._told = settings, queue, make_room, told
        self._turn = threading.Lock()

    def take(self, data: bytes, source: str, sop_class: str = "", sop_uid: str = "") -> Answer:
        """A film of ``source``: once this returns ``TAKEN`` it survives whatever happens.

        Args:
            data: a DICOM file.
            source: AE title, or name of a DICOMweb server.
            sop_class, sop_uid: what the sender says that it is, where it does so beside the data set.
        """
        answer = self._take(data, source, sop_class, sop_uid)
        if not answer.taken:
            self.refused(answer, source)
        return answer

    def refused(self, answer: Answer, source: str) -> None:
        """Says that a film was not taken."""
        fields = {"event": "not_taken", "ae": source, "status": f"{answer.status:04X}"}
        logger.warning("not taken: %s", answer.comment, extra=fields)
        self._told(source, fields["status"])

    def _take(self, data: bytes, source: str, sop_class: str, sop_uid: str) -> Answer:
        try:
            film = _head(BytesIO(data))
            kind, uid, study = (UID(film[name].value) for name in UIDS)
        except Exception:  # pydicom may raise anything on hostile bytes
            return Answer(NOT_UNDERSTOOD, "no DICOM data set with its SOP and study instance UIDs")
        if self._queue.is_own(uid):  # a PACS that routes everything sends our own Secondary Captures, too
            return TAKEN
        if (sop_class and kind != sop_class) or (sop_uid and uid != sop_uid):
            return Answer(ANOTHER_KIND, "the data set's SOP class or instance UID is another")
        if not uid.is_valid or not study.is_valid:
            return Answer(NOT_UNDERSTOOD, "its SOP or study instance UID is none")
        try:
            check_dicom(data)
        except RefusedFilm as refusal:
            status = ANOTHER_KIND if refusal.type == "NotARadiograph" else NOT_UNDERSTOOD
            return Answer(status, f"{refusal.type}: {refusal.message}"[:64])
        except Exception:
            return Answer(NOT_UNDERSTOOD, "UnreadableImage: the file is damaged")
        with self._turn:
            known = self._queue.film(uid)
            return self._again(known, data, film) if known else self._new(data, source, uid, study)

    def _new(self, data: bytes, source: str, uid: str, study: str) -> Answer:
        path = film_file(self._settings.folder, uid)
        try:
            if not self._has_room(len(data)):
                return FULL
            with written(path, len(data)) as new:
                new.write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            self._queue.add(uid, study, digest, source, self._settings.deliver_to or source, len(data))
        except (NotWritten, sqlite3.OperationalError) as fault:
            if not says_full(fault):
                raise
            path.unlink(missing_ok=True)
            return FULL
        return TAKEN

    def _again(self, known: Film, data: bytes, film: pydicom.Dataset) -> Answer:
        """A film that was sent before is taken, and nothing more; one of another patient under its UID is not."""
        path = film_file(self._settings.folder, known.sop_uid)
        other = known.digest != hashlib.sha256(data).hexdigest() and path.exists()
        if other and _whose(_head(path)) != _whose(film):
            return Answer(NOT_UNDERSTOOD, "its SOP instance UID is that of another patient's film")
        return TAKEN

    def _has_room(self, size: int) -> bool:
        if (lacking := self._lacking(size)) > 0:
            self._make_room(lacking)
        return self._lacking(size) <= 0

    def _lacking(self, size: int) -> float:
        over = self._queue.bytes_kept() + size - self._settings.max_gb * GB
        short = self._settings.min_free_gb * GB + size - shutil.disk_usage(self._settings.folder).free
        return max(over, short)


def _head(file: BytesIO | Path) -> pydicom.Dataset:
    return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*UIDS, *PATIENT])


def _whose(film: pydicom.Dataset) -> list[str]:
    """Of a patient with an ID the name may be corrected."""
    names = PATIENT[:2] if film.get("PatientID") else PATIENT
    return [str(film.get(name) or "") for name in (*UIDS, *names)]
