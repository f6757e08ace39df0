"""TorchServe's entry point of the disease node: messages in, JSON reports out."""

import logging
from pathlib import Path
from typing import Any

from handlers.decoding.batch import INTERNAL
from handlers.message import Screened, unpack
from handlers.networks.precision import say_precision
from handlers.networks.vit import serving_device
from handlers.reading import Naming
from handlers.report import Refusal

logger = logging.getLogger(__name__)


class DiseaseHandler:
    """Names the findings of a batch's routed films. It never raises on what reached it."""

    def initialize(self, context: Any) -> None:
        properties = context.system_properties
        self.naming = Naming(Path(properties["model_dir"]), serving_device(properties.get("gpu_id")))
        self.naming.vit.warm_up()
        say_precision("disease", self.naming.precision)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """One JSON document per message, as ``handlers.report`` describes it."""
        films_before, maps_before = self.naming.films_read, self.naming.heatmaps_made
        try:
            answers = self.naming.name([_film(request) for request in data])
        except Exception:
            logger.exception("stage 2 failed on a batch of %d films", len(data))
            self.naming.vit.end_if_broken()
            answers = [INTERNAL] * len(data)
        seen = self.naming.films_read - films_before
        count = context.metrics.add_counter
        count("cxr_disease_batches", 1 if seen else 0)
        count("cxr_disease_films", seen)
        count("cxr_heatmaps", self.naming.heatmaps_made - maps_before)
        return [answer.model_dump_json().encode() for answer in answers]


def _film(request: dict[str, Any]) -> Screened | Refusal:
    try:
        return unpack(bytes(request.get("body") or b""))
    except (ValueError, TypeError) as fault:
        return Refusal.because(400, "NotAMessage", str(fault))
