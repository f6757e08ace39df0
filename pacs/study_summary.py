"""A study's films summed up, once no more of them come."""

import logging

from handlers.report import Report
from handlers.study import summed_up
from pacs.film_queue import FilmQueue
from pacs.metrics import Metrics

logger = logging.getLogger(__name__)


def sum_up_stable(queue: FilmQueue, metrics: Metrics, stable_after: float) -> None:
    """Sums up each study that has had no new film for ``stable_after`` seconds and of which all are read or refused.

    A film that comes later makes it be summed up anew. The summary says no more than the films' reports do: no model
    has seen two of them at once. It stays in the queue, for ``--status``, and goes into no object of its own.
    """
    for uid in queue.stable_studies(stable_after):
        answers = queue.reports_of(uid)
        reports: dict[int, Report] = {film: report for film, report in enumerate(answers) if report is not None}
        study = summed_up(len(answers), reports)
        queue.sum_up(uid, study)
        metrics.studies.labels(str(study.present).lower()).inc()
        fields = {
            "films": study.films,
            "read": len(study.read),
            "refused": len(study.refused),
            "present": study.present,
        }
        logger.info("a study is summed up", extra={"event": "study", **fields})
