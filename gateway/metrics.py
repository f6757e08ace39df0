"""The gateway's counters, for Prometheus; ``dashboard.json`` shows them."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.admission import Admission
from gateway.drift import Change
from handlers.report import ModelVersions, Quality

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


disable_created_metrics()  # a series more for each counter, which no dashboard shows


class _Models(Collector):
    """``cxr_gateway_model``, 1, by stage, of the models that read the last film."""

    def __init__(self, models: Callable[[], ModelVersions | None]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        labels = ("stage", "version", "precision")
        family = GaugeMetricFamily("cxr_gateway_model", "Models that read the last film", labels=labels)
        if models := self._models():
            for stage, version in models.model_dump().items():
                family.add_metric((stage, version, models.precisions[stage]), 1.0)
        yield family


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
        feedback: what readers said of films, by ``kind``: agreed, corrected, unreadable.
        records_failed: reports and feedback that could not be noted (``gateway.records``).
        drift: by ``quantity`` and ``measure`` (psi, ks, moved: 1 or 0) of the last films beside the validation films
            (``gateway.drift``); without a series where they are too few.
        drift_films: of these last films, how many have each ``quantity``.
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
        self.feedback = counter("feedback", "Reports that readers judged, by kind", "kind")
        self.records_failed = counter("records_failed", "Reports and feedback that could not be noted")
        self.drift = Gauge(
            "cxr_gateway_drift",
            "The last films beside the validation films",
            ["quantity", "measure"],
            registry=self.registry,
        )
        self.drift_films = Gauge(
            "cxr_gateway_drift_films",
            "Of the last films, those that are compared",
            ["quantity"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "cxr_gateway_seconds", "Seconds by stage", ["path", "stage"], buckets=SECONDS, registry=self.registry
        )
        in_flight = Gauge("cxr_gateway_in_flight", "Films that TorchServe has", registry=self.registry)
        in_flight.set_function(lambda: admission.in_flight)
        waiting = Gauge("cxr_gateway_waiting", "Films that wait for a slot", registry=self.registry)
        waiting.set_function(lambda: admission.waiting)
        slots = Gauge("cxr_gateway_slots", "Films that TorchServe may have at once", registry=self.registry)
        slots.set(admission.number)
        ProcessCollector(registry=self.registry)

    def show_models(self, models: Callable[[], ModelVersions | None]) -> None:
        """A series for each stage from now on, with its version and precision; ``models`` is asked at each look."""
        self.registry.register(_Models(models))

    def count(self, path: str, outcome: str, type: str | None, milliseconds: Mapping[str, float]) -> None:
        """A request, or a film of a study, at its end; ``type`` of its problem, where it had one."""
        self.requests.labels(path, outcome).inc()
        if type:
            self.refused.labels(path, type).inc()
        for stage, one in milliseconds.items():
            self.seconds.labels(path, stage).observe(one / 1000.0)

    def show_drift(self, changes: Mapping[str, Change]) -> None:
        """By quantity; takes the place of what was shown before."""
        self.drift.clear()
        self.drift_films.clear()
        for quantity, change in changes.items():
            self.drift_films.labels(quantity).set(change.films)
            for measure in ("psi", "ks", "moved"):
                value = getattr(change, measure)
                if value is not None and change.psi is not None:
                    self.drift.labels(quantity, measure).set(value)

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
