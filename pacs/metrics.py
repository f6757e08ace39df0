"""The node's counters, for Prometheus, by the AE title or DICOMweb server that each film came from."""

import time
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pacs.film_queue import Film, FilmQueue, State
from pacs.settings import Settings, SettingsError

SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)

disable_created_metrics()  # a series more for each counter, which no dashboard shows


class Metrics:
    """One node's counters, in a registry of their own.

    Attributes:
        steps: films that have come into a state, since the node's start: received, read, delivered, refused, stuck.
        not_taken: films refused when they were sent, by the C-STORE's status.
        studies: that were summed up, by whether stage 1 found anything.
        seconds: from a film's receipt to its delivery.
    """

    def __init__(self, queue: FilmQueue) -> None:
        self.registry = its = CollectorRegistry()
        self.registry.register(_Held(queue))
        self.steps = Counter(
            "cxr_pacs_films_total", "Films by the state that they came into", ["ae", "state"], registry=its
        )
        self.not_taken = Counter("cxr_pacs_not_taken_total", "Films refused when sent", ["ae", "status"], registry=its)
        self.studies = Counter("cxr_pacs_studies_total", "Studies summed up", ["present"], registry=its)
        self.seconds = Histogram(
            "cxr_pacs_delivery_seconds", "Seconds from receipt to delivery", ["ae"], buckets=SECONDS, registry=its
        )

    def count(self, film: Film) -> None:
        """A step of a film; one that is taken back is none."""
        if film.failures and film.state in (State.RECEIVED, State.READ):
            return
        self.steps.labels(film.source, film.state).inc()
        if film.state is State.DELIVERED:
            self.seconds.labels(film.source).observe(max(0.0, time.time() - film.received))

    def count_not_taken(self, source: str, status: str) -> None:
        self.not_taken.labels(source, status).inc()

    def serve(self, settings: Settings) -> None:
        """``http://HOST:PORT/metrics``, in a thread; raises SettingsError where the port is taken."""
        try:
            start_http_server(settings.metrics_port, settings.metrics_host, self.registry)
        except OSError as fault:
            where = f"{settings.metrics_host}, port {settings.metrics_port} (metrics_port)"
            raise SettingsError(f"cannot listen on {where}: {fault.strerror}") from fault

    def exposition(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry)


class _Held(Collector):
    """What the queue holds, when it is asked."""

    def __init__(self, queue: FilmQueue) -> None:
        self._queue = queue

    def collect(self) -> Iterator[GaugeMetricFamily]:
        films = GaugeMetricFamily("cxr_pacs_held_films", "Films in the queue by their state", labels=["ae", "state"])
        for (source, state), number in self._queue.counts().items():
            films.add_metric([source, state], number)
        yield films
        kept = GaugeMetricFamily("cxr_pacs_kept_bytes", "Bytes of films and reports on the disk")
        kept.add_metric([], self._queue.bytes_kept())
        yield kept
