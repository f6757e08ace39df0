"""The gateway's counters, for Prometheus; ``dashboard.json`` shows them."""

from collections.abc import Mapping

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
from handlers.report import Quality

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


disable_created_metrics()  # a series more for each counter, which no dashboard shows


class Metrics:
    """One app's counters, in a registry of their own.

    ``path`` is a route's, ``study film`` for each film of a study, or ``none`` where no route took the request.

    Attributes:
        requests: by ``path`` and ``outcome``: read, refused (the film), rejected (the request), unauthorized, full,
            not_ready, failed, deadline, hung_up.
        refused: those with a problem, by ``path`` and ``type``.
        films: reports given, by ``route`` (routed or skipped) and whether ``heatmaps`` were asked for (true or false):
            the page asks for those of a film that was read before.
        quality: films that were read, without those of which heatmaps were asked for, by ``sign``: unlike (the training
            films), turned, mirrored, inverted, corrected; none where there is none. A film may have several.
        answers_lost: that TorchServe never gave; there are none with ``workflows/DagExecutor.groovy``.
        seconds: by ``path`` and ``stage``: upload, wait (for a slot), read (by TorchServe, or rendered), total.
    """

    def __init__(self, admission: Admission) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, help: str, *labels: str) -> Counter:
            return Counter(f"cxr_gateway_{name}_total", help, labels, registry=self.registry)

        self.requests = counter("requests", "Requests, and films of studies, by outcome", "path", "outcome")
        self.refused = counter("refused", "Requests, and films of studies, with a problem, by type", "path", "type")
        self.films = counter("films", "Reports given, by route", "route", "heatmaps")
        self.quality = counter("quality", "Films by what the models would trip over", "sign")
        self.answers_lost = counter("answers_lost", "Answers that TorchServe never gave")
        self.seconds = Histogram(
            "cxr_gateway_seconds", "Seconds by stage", ["path", "stage"], buckets=SECONDS, registry=self.registry
        )
        in_flight = Gauge("cxr_gateway_in_flight", "Films that TorchServe has", registry=self.registry)
        in_flight.set_function(lambda: admission.in_flight)
        waiting = Gauge("cxr_gateway_waiting", "Films that wait for a slot", registry=self.registry)
        waiting.set_function(lambda: admission.waiting)
        ProcessCollector(registry=self.registry)

    def count(self, path: str, outcome: str, type: str | None, milliseconds: Mapping[str, float]) -> None:
        """A request, or a film of a study, at its end; ``type`` of its problem, where it had one."""
        self.requests.labels(path, outcome).inc()
        if type:
            self.refused.labels(path, type).inc()
        for stage, one in milliseconds.items():
            self.seconds.labels(path, stage).observe(one / 1000.0)

    def count_quality(self, quality: Quality) -> None:
        """What a film that was read is like."""
        corrected = quality.corrected is not None
        signs = {
            "turned": quality.orientation.value != "upright",
            "mirrored": quality.mirrored.value,
            "inverted": quality.inverted.value,
            "unlike": quality.unlike,
            "corrected": corrected,
        }
        for sign in [sign for sign, there in signs.items() if there] or ["none"]:
            self.quality.labels(sign).inc()

    def exposition(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry)
