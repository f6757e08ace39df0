"""The gateway's counters, for Prometheus; ``dashboard.json`` shows them."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from gateway.admission import Admission

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


disable_created_metrics()  # a series more for each counter, which no dashboard shows


class Metrics:
    """One app's counters, in a registry of their own.

    Attributes:
        requests: film requests by ``outcome``: read, refused (the film), rejected (the request), unauthorized, full,
            not_ready, failed, deadline, hung_up.
        refused: answers without a report, by problem ``type``.
        films: films read, by ``route``: routed or skipped.
        answers_lost: that TorchServe never gave; there are none with ``workflows/DagExecutor.groovy``.
        seconds: by ``stage``: upload, wait (for a place), read (by TorchServe), total (as the client sees it).
    """

    def __init__(self, admission: Admission) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "cxr_gateway_requests_total", "Film requests by outcome", ["outcome"], registry=self.registry
        )
        self.refused = Counter(
            "cxr_gateway_refused_total", "Film requests without a report, by type", ["type"], registry=self.registry
        )
        self.films = Counter("cxr_gateway_films_total", "Films read, by route", ["route"], registry=self.registry)
        self.answers_lost = Counter(
            "cxr_gateway_answers_lost_total", "Answers that TorchServe never gave", registry=self.registry
        )
        self.seconds = Histogram(
            "cxr_gateway_seconds", "Seconds by stage", ["stage"], buckets=SECONDS, registry=self.registry
        )
        in_flight = Gauge("cxr_gateway_in_flight", "Films that TorchServe has", registry=self.registry)
        in_flight.set_function(lambda: admission.in_flight)
        waiting = Gauge("cxr_gateway_waiting", "Films in line for a place", registry=self.registry)
        waiting.set_function(lambda: admission.waiting)
        ProcessCollector(registry=self.registry)

    def exposition(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry)
