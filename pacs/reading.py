"""From a film on the disk to its report as DICOM objects, through the gateway as any client of it."""

import logging
import threading
from pathlib import Path

import pydicom

from client.gateway import NO_REPORT, Gateway, Stopped
from handlers.refusals import RefusedFilm
from handlers.report import Report
from pacs.film_attributes import NotReportable
from pacs.film_files import film_file, objects_folder
from pacs.film_queue import LOOK, Film, FilmQueue, State
from pacs.secondary_capture import secondary_captures
from pacs.settings import Settings
from pacs.structured_report import structured_report
from workflows.files.atomic import written_folder
from workflows.server import ServerError

READERS = 8
"""Films at once: half a batch of a node of the workflow, and a share of the gateway's 32."""
SILENCE = 120.0
"""Seconds for which the client waits for a gateway that answers no film, before the film is queued again."""

logger = logging.getLogger(__name__)


class Reading:
    """Threads that read what is due, until ``stopped`` is set."""

    def __init__(self, settings: Settings, queue: FilmQueue, gateway: Gateway, stopped: threading.Event) -> None:
        self._queue, self._gateway, self._stopped = queue, gateway, stopped
        self._folder, self._longest = settings.folder, settings.longest_pause
        self._heatmaps = ",".join(settings.wanted_heatmaps())

    def start(self) -> list[threading.Thread]:
        threads = [
            threading.Thread(target=self._run, name=f"reader {number}", daemon=True) for number in range(READERS)
        ]
        for thread in threads:
            thread.start()
        return threads

    def _run(self) -> None:
        pause = 1.0
        while not self._stopped.is_set():
            film = None
            try:
                if film := self._queue.claim_to_read():
                    self._read(film)
                else:
                    self._queue.wait(LOOK)
                pause = 1.0
            except Stopped:
                return  # the next start reads it
            except Exception as fault:  # a full disk, say: whatever it is, it must not end this thread
                logger.warning("reading is hindered", exc_info=fault, extra={"event": "reading_hindered"})
                reason = str(fault) if isinstance(fault, ServerError) else type(fault).__name__
                self._queue.put_back([film] if film else [], reason, self._stopped)
                self._stopped.wait(pause)
                pause = min(pause * 2, self._longest)

    def _read(self, film: Film) -> None:
        """Raises ServerError where the service is away, full for long, or refuses the key; Stopped at the end."""
        path = film_file(self._folder, film.sop_uid)
        answer = self._gateway.read(path.read_bytes(), self._heatmaps)
        if isinstance(answer, Report):
            self._keep(film, path, answer)
            return
        reason = f"{answer.error.type}: {answer.error.message}"
        if answer.error.type not in NO_REPORT:
            self._queue.become(film, State.REFUSED, reason)
        else:
            self._queue.try_again(film, State.RECEIVED, reason, self._longest)

    def _keep(self, film: Film, path: Path, report: Report) -> None:
        """The report's objects, on the disk before the queue says so."""
        try:
            data_set = pydicom.dcmread(path)
            objects = [structured_report(data_set, report), *secondary_captures(data_set, report)]
        except (NotReportable, RefusedFilm) as fault:
            return self._queue.become(film, State.REFUSED, f"{type(fault).__name__}: {fault}")
        except Exception as fault:  # a data set may hold anything, and a fault's words may quote it
            logger.error("no object can be made", exc_info=fault, extra={"event": "no_object", "film": film.id})
            said = f"no DICOM object can be made of its report: {type(fault).__name__}"
            return self._queue.become(film, State.STUCK, said)
        with written_folder(objects_folder(self._folder, film.sop_uid)) as folder:
            for number, each in enumerate(objects):
                each.save_as(folder / f"{number:02}.dcm", enforce_file_format=True)
            size = sum(file.stat().st_size for file in folder.iterdir())
        made = [(one.SOPInstanceUID, one.SOPClassUID) for one in objects]
        return self._queue.was_read(film, report, made, size)
