"""A node that a PACS can talk to: chest films come by DICOM or are pulled by DICOMweb, their reports go back as DICOM.

    python -m pacs.node --config pacs.yaml               # until SIGTERM; 'cxr pacs' is the same
    python -m pacs.node --config pacs.yaml --status      # what it has and has done; runs beside it
    python -m pacs.node --config pacs.yaml --again       # what is stuck or refused is sent on its way again

Each film is on the disk before it is acknowledged, and is delivered once, whatever ends which process when. Exit code:
0 ended by SIGTERM or done; 1 a setting cannot be, or another node has the folder.
"""

import logging
import logging.config
import signal
import threading
from collections.abc import Sequence

from filelock import FileLock, Timeout

from client.gateway import Gateway
from pacs.delivery import Delivery
from pacs.dicomweb import DicomWeb
from pacs.dimse_store import Commitments, DimseStore
from pacs.film_queue import Film, FilmQueue, existing
from pacs.metrics import Metrics
from pacs.reading import READERS, SILENCE, Reading
from pacs.reception import Reception
from pacs.retention import Retention
from pacs.settings import Settings, SettingsError, parse_settings
from pacs.status import print_status
from pacs.storage_scp import StorageScp
from pacs.study_summary import sum_up_stable
from workflows import command_line
from workflows.files.text_files import read_text
from workflows.log_lines import logging_of

CARE = 1.0
"""Seconds between two looks at which studies are stable."""
RETENTION = 60
"""Such looks between two at what may be removed."""
END_LIMIT = 20.0
"""Seconds that threads have to end; what they were doing is done again at the next start."""

logger = logging.getLogger("pacs.node")  # by any name that it is started by


def main(arguments: Sequence[str] | None = None, prog: str = "python -m pacs.node") -> int:
    settings, chosen = parse_settings(
        arguments,
        prog,
        __doc__ or "",
        status={"action": "store_true", "help": "show what the node has and has done"},
        again={"nargs": "*", "metavar": "UID", "help": "read and deliver again: these films, or all stuck or refused"},
    )
    if chosen.status:
        print_status(existing(settings.folder))
    elif chosen.again is not None:
        films = existing(settings.folder).again(chosen.again)
        print(f"{len(films)} films are on their way again")
        return 0 if films or not chosen.again else 1
    else:
        logging.config.dictConfig(logging_of(pacs="INFO", pynetdicom="CRITICAL", dicomweb_client="CRITICAL"))
        run(settings)
    return 0


def run(settings: Settings) -> None:
    """Until SIGTERM or SIGINT.

    Raises:
        SettingsError: something that is set cannot be.
        QueueError, NotWritten: of the folder.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.folder / "node.lock", timeout=0)
    try:
        with lock:
            _run(settings)
    except Timeout:
        raise SettingsError(f"another node has {settings.folder}: end it, or name another --folder") from None


def _run(settings: Settings) -> None:
    queue, stopped = FilmQueue(settings.folder), threading.Event()
    metrics = Metrics(queue)

    def told(film: Film) -> None:
        metrics.count(film)
        fields = {"event": "film", "film": film.id, "ae": film.source, "state": film.state, "reason": film.reason}
        logger.info("film %s %s", film.id, film.state, extra=fields)

    queue.told = told
    queue.recover()
    retention = Retention(settings, queue)
    retention.clean()
    gateway = Gateway(settings.gateway, read_text(settings.key_file).strip(), READERS, SILENCE)
    reception = Reception(settings, queue, retention.make_room, metrics.count_not_taken)
    delivery = Delivery(settings, queue, stopped)
    commitments = Commitments(queue, delivery.conclude)
    scp = StorageScp(settings, reception, commitments.reported)
    metrics.serve(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopped.set())
    threads = _started(settings, queue, gateway, reception, delivery, commitments, stopped)
    scp.start()
    where = f"{settings.ae_title} on {settings.host}, port {settings.port}"
    logger.info("listening as %s", where, extra={"event": "listening"})
    _care(settings, queue, metrics, retention, stopped)
    scp.stop()
    gateway.stopped.set()
    queue.wake()
    for thread in threads:
        thread.join(END_LIMIT)
    logger.info("ended", extra={"event": "ended"})


def _started(
    settings: Settings,
    queue: FilmQueue,
    gateway: Gateway,
    reception: Reception,
    delivery: Delivery,
    commitments: Commitments,
    stopped: threading.Event,
) -> list[threading.Thread]:
    """All that works by itself."""
    threads = Reading(settings, queue, gateway, stopped).start()
    for peer in settings.peers:
        if peer.port:
            threads.append(delivery.start(peer.ae_title, DimseStore(settings, queue, peer, commitments).store))
    for server in settings.web:
        web = DicomWeb(settings, server, queue, reception)
        threads.append(delivery.start(server.name, web.store))
        if server.pull:
            pulling = threading.Thread(target=web.pull_until, args=(stopped,), name=f"pull {server.name}", daemon=True)
            pulling.start()
            threads.append(pulling)
    return threads


def _care(
    settings: Settings, queue: FilmQueue, metrics: Metrics, retention: Retention, stopped: threading.Event
) -> None:
    """What is looked at now and then, until the node is ended."""
    looks = 0
    while not stopped.wait(CARE):
        try:
            sum_up_stable(queue, metrics, settings.stable_after)
            if looks % RETENTION == 0:
                retention.look()
        except Exception as fault:  # a full disk, say
            logger.error("the folder cannot be looked after", exc_info=fault, extra={"event": "care_hindered"})
        looks += 1


if __name__ == "__main__":
    command_line.run(main)
