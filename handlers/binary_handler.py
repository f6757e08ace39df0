"""TorchServe's entry point of the binary node: films in, messages out."""

import logging
from pathlib import Path
from typing import Any

from handlers.decoding.batch import INTERNAL
from handlers.message import pack
from handlers.networks.precision import say_precision
from handlers.networks.vit import serving_device
from handlers.reading import Screening
from handlers.report import Refusal

CORRECT = b"correct"

logger = logging.getLogger(__name__)


class BinaryHandler:
    """Screens a batch. It never raises on what a client sent: a node that raises fails its whole batch."""

    def initialize(self, context: Any) -> None:
        properties = context.system_properties
        self.screening = Screening(Path(properties["model_dir"]), serving_device(properties.get("gpu_id")))
        self.screening.vit.warm_up()
        say_precision("binary", self.screening.precision)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """One message per request; each request holds the film under ``body`` or the form field ``data``.

        The form field ``heatmaps`` beside it is what ``handlers.networks.heatmap.findings_asked`` reads; with the form
        field ``quality``, ``correct``, a film that is turned or inverted is put right before it is read.
        """
        films = [_bytes(request.get("body") or request.get("data") or b"") for request in data]
        heatmaps = {
            place: _bytes(request["heatmaps"]).decode(errors="replace")
            for place, request in enumerate(data)
            if "heatmaps" in request
        }
        corrected = [place for place, request in enumerate(data) if _bytes(request.get("quality", b"")) == CORRECT]
        before = self.screening.films_read
        try:
            answers = self.screening.screen(films, heatmaps, corrected)
        except Exception:
            logger.exception("stage 1 failed on a batch of %d films", len(films))
            self.screening.vit.end_if_broken()
            answers = [INTERNAL] * len(films)
        refused = sum(isinstance(answer, Refusal) for answer in answers)
        routed = sum(not isinstance(answer, Refusal) and answer.routed for answer in answers)
        count = context.metrics.add_counter
        count("cxr_binary_batches", 1)
        count("cxr_binary_films", self.screening.films_read - before)
        count("cxr_films_refused", refused)
        count("cxr_films_routed", routed)
        count("cxr_films_skipped", len(answers) - refused - routed)
        return [pack(answer) for answer in answers]


def _bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | bytearray) else str(value).encode()
