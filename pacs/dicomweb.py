"""The same by pulling: QIDO-RS for new films, WADO-RS of each, STOW-RS of its report (PS3.18, chapter 10)."""

import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from io import BytesIO
from typing import Any

import pydicom
import requests
from dicomweb_client import DICOMwebClient

from handlers.decoding.dicom import MODALITIES
from pacs.delivery import Away, Concluded
from pacs.film_files import object_files
from pacs.film_queue import Film, FilmQueue
from pacs.reception import FULL, Reception
from pacs.settings import Settings, SettingsError, WebServer
from pacs.storage_scp import STORED
from workflows.files.text_files import read_text

LATER = (401, 403, 408, 429)
"""Answers that say nothing of the objects; so do those from 500 up."""
STUDY, SERIES, INSTANCE, KIND, INSTANCES = "0020000D", "0020000E", "00080018", "00080016", "00201208"
"""Tags, as DICOM JSON names elements: UIDs of study, series and instance, SOP class, number of a study's instances."""
PAGE = 200
"""Studies or instances of one answer."""

Found = dict[str, dict[str, Any]]
"""A data set in DICOM JSON (PS3.18, annex F)."""

logger = logging.getLogger(__name__)


class Full(Exception):
    """There is no room for films now."""


class DicomWeb:
    """One server: films out of it, reports into it."""

    def __init__(self, settings: Settings, server: WebServer, queue: FilmQueue, reception: Reception) -> None:
        self._settings, self._server, self._queue, self._reception = settings, server, queue, reception
        self._client = _client(server, settings.timeout)
        self._looked_at: dict[str, str] = {}
        self._left: set[str] = set()

    def store(self, films: list[Film], concluded: Concluded) -> None:
        """See ``pacs.delivery.Store``."""
        for film in films:
            objects = [pydicom.dcmread(file) for file in object_files(self._settings.folder, film.sop_uid)]
            try:
                answer = self._client.store_instances(objects)
            except requests.RequestException as fault:
                concluded(film, self._failure(fault))
                continue
            failed = answer.get("FailedSOPSequence") or [] if answer else []
            reasons = sorted({f"{item.get('FailureReason', 0):04X}" for item in failed})
            concluded(film, f"{self._server.name} has not stored {len(failed)} objects: {reasons}" if failed else "")

    def pull_until(self, stopped: threading.Event) -> None:
        """Looks for new films again and again."""
        while not stopped.is_set():
            try:
                self._pull(stopped)
            except Full:
                logger.warning(FULL.comment, extra={"event": "full", "ae": self._server.name})
            except (requests.RequestException, Away) as fault:
                said = str(fault) if isinstance(fault, Away) else f"{self._server.name} {_cause(fault)}"
                logger.warning(said, extra={"event": "away", "ae": self._server.name})
            except Exception as fault:  # whatever a server answers, it must not end this thread
                logger.error("pulling is hindered", exc_info=fault, extra={"event": "pulling_hindered"})
            stopped.wait(self._settings.pull_every)

    def _pull(self, stopped: threading.Event) -> None:
        """A look; the mark moves to its day once all that was found is here."""
        today = date.today()
        since = self._queue.mark(self._server.name) or self._server.since or today.isoformat()
        for study, instances in self._studies(date.fromisoformat(since) - timedelta(self._server.look_back)):
            if not instances or self._looked_at.get(study) != instances:
                for series, instance in self._films(study):
                    if stopped.is_set():
                        return
                    self._retrieve(study, series, instance)
                self._looked_at[study] = instances
        self._queue.set_mark(self._server.name, today.isoformat())

    def _studies(self, since: date) -> Iterator[tuple[str, str]]:
        """Each study with a radiograph in it from that day on, and how many instances the server says that it has."""
        seen = set()
        for modality in MODALITIES:
            wanted = {"StudyDate": f"{since:%Y%m%d}-", "ModalitiesInStudy": modality}
            search = partial(self._client.search_for_studies, fields=[INSTANCES], search_filters=wanted)
            for study in _all_found(search, STUDY):
                if (uid := _value(study, STUDY)) not in seen:
                    seen.add(uid)
                    yield uid, _value(study, INSTANCES)

    def _films(self, study: str) -> Iterator[tuple[str, str]]:
        """Series and instance of each that may be a film and is not known."""
        search = partial(self._client.search_for_instances, study, fields=[KIND])
        for instance in _all_found(search, INSTANCE):
            uid = _value(instance, INSTANCE)
            known = uid in self._left or self._queue.film(uid) or self._queue.is_own(uid)
            if _value(instance, KIND) in STORED and not known:
                yield _value(instance, SERIES), uid

    def _retrieve(self, study: str, series: str, instance: str) -> None:
        """Raises Full; requests' exceptions where the server is away."""
        try:
            film = self._client.retrieve_instance(study, series, instance)
            buffer = BytesIO()
            film.save_as(buffer, enforce_file_format=True)
        except requests.RequestException as fault:
            self._failure(fault)
            self._left.add(instance)
        except Exception as fault:  # a multipart answer or a data set that cannot be parsed
            logger.warning("a film cannot be retrieved", exc_info=fault, extra={"event": "not_retrieved"})
            self._left.add(instance)
        else:
            answer = self._reception.take(buffer.getvalue(), self._server.name)
            if answer == FULL:
                raise Full
            if not answer.taken:
                self._left.add(instance)  # until the next start: it would be the same

    def _failure(self, fault: requests.RequestException) -> str:
        """What is wrong with what was asked; raises Away where it is the server."""
        status = fault.response.status_code if fault.response is not None else None
        if status is None or status in LATER or status >= 500:
            raise Away(f"{self._server.name} {_cause(fault)}") from None
        return f"{self._server.name} {_cause(fault)}"


def _client(server: WebServer, seconds: float) -> DICOMwebClient:
    session = requests.Session()
    session.trust_env = False  # a proxy named in the environment must not see films
    authorities = ssl.get_default_verify_paths()
    session.verify = authorities.cafile or authorities.capath or True
    if server.user:
        if server.password_file is None:
            raise SettingsError(f"{server.name}: a user wants a password_file")
        session.auth = (server.user, read_text(server.password_file).strip())
    client = DICOMwebClient(server.url, session, timeout=seconds)
    client.set_http_retry_params(retry=False)  # who calls comes again
    return client


def _all_found(search: Callable[..., list[Found]], tag: str) -> Iterator[Found]:
    """All pages of a search. One that brings nothing new is the last: some servers pay no heed to an offset."""
    seen: set[str] = set()
    while new := {uid: one for one in search(limit=PAGE, offset=len(seen)) if (uid := _value(one, tag)) not in seen}:
        yield from new.values()
        seen |= set(new)


def _value(instance: Found, tag: str) -> str:
    values = instance.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _cause(fault: requests.RequestException) -> str:
    """Without the URL, which names studies."""
    return f"answers HTTP {fault.response.status_code}" if fault.response is not None else "cannot be reached"
