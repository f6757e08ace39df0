"""The steps of a reading: decode, stage 1, gate; then stage 2, report. Plain classes, no server in them."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from handlers.findings import FINDINGS
from handlers.image import RefusedFilm, read_film, to_pixels
from handlers.message import Screened
from handlers.metadata import Metadata
from handlers.report import ModelVersions, Refusal, Report, Score, skipped_diseases
from handlers.vit import Vit

FINDING = "Finding"
"""Stage 1's one label."""

logger = logging.getLogger(__name__)

INTERNAL = Refusal.because(500, "InternalError", "the film could not be read because of a fault in the service")


class Screening:
    """Decode, stage 1 and gate.

    Args:
        folder: the binary model's unpacked archive.
        device: where the ViT runs.

    Attributes:
        films_read: how many films the ViT has seen.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.metadata = Metadata.read(folder)
        self.vit = Vit(folder, device, calibration=self.metadata.maps)
        self.threshold = self.metadata.thresholds[FINDING]
        self.films_read = 0

    def screen(self, films: Sequence[bytes]) -> list[Screened | Refusal]:
        """One answer per film, in order; a film that is refused leaves the others untouched."""
        decoded = [self._decode(film) for film in films]
        readable = [pixels for pixels in decoded if not isinstance(pixels, Refusal)]
        if not readable:
            return [answer for answer in decoded if isinstance(answer, Refusal)]
        probabilities = iter(self.vit.probabilities(np.stack(readable))[:, 0].tolist())
        self.films_read += len(readable)
        return [one if isinstance(one, Refusal) else self._gate(next(probabilities), one) for one in decoded]

    def _decode(self, film: bytes) -> NDArray[np.uint8] | Refusal:
        try:
            return to_pixels(read_film(film), self.vit.image_size)
        except RefusedFilm as refused:
            return Refusal.because(refused.code, refused.type, refused.message)

    def _gate(self, probability: float, pixels: NDArray[np.uint8]) -> Screened:
        finding = Score.at(probability, self.threshold)
        return Screened(finding, self.metadata.version, pixels if finding.present else None)


class Naming:
    """Stage 2 on the routed films of a batch only, and the report of every film.

    Args:
        folder: the disease model's unpacked archive.
        device: where the ViT runs.

    Attributes:
        films_read: how many films the ViT has seen.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.metadata = Metadata.read(folder)
        self.vit = Vit(folder, device, calibration=self.metadata.maps)
        self.films_read = 0

    def name(self, films: Sequence[Screened | Refusal]) -> list[Report | Refusal]:
        """One report per film, in order."""
        films = [self._fitting(film) for film in films]
        routed = [film.pixels for film in films if isinstance(film, Screened) and film.pixels is not None]
        scores = iter(self.vit.probabilities(np.stack(routed)).tolist() if routed else [])
        self.films_read += len(routed)
        return [film if isinstance(film, Refusal) else self._report(film, scores) for film in films]

    def _fitting(self, film: Screened | Refusal) -> Screened | Refusal:
        side = self.vit.image_size
        if isinstance(film, Screened) and film.pixels is not None and film.pixels.shape != (side, side):
            logger.error("pixels %s reach a disease model of %d px", film.pixels.shape, side)
            return INTERNAL
        return film

    def _report(self, film: Screened, scores: Iterator[list[float]]) -> Report:
        thresholds = self.metadata.thresholds
        if film.routed:
            named = zip(FINDINGS, next(scores), strict=True)
            diseases = {finding: Score.at(score, thresholds[finding]) for finding, score in named}
        else:
            diseases = skipped_diseases(thresholds)
        models = ModelVersions(binary=film.version, disease=self.metadata.version)
        return Report(finding=film.finding, routed=film.routed, diseases=diseases, models=models)
