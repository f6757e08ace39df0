"""The steps of a reading: decode, stage 1, gate; then stage 2, report. Plain classes, no server in them."""

import logging
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from handlers.decoding.batch import INTERNAL, Decoded, Decoding, decode
from handlers.message import Asked, Screened
from handlers.metadata import Metadata
from handlers.networks.heatmap import Wanted, findings_asked, heatmaps_of
from handlers.networks.precision import choose
from handlers.networks.vit import Vit
from handlers.quality import QualityReader, put_right
from handlers.report import Correction, ModelVersions, Quality, Refusal, Report

logger = logging.getLogger(__name__)


class Seen(NamedTuple):
    """A film as stage 1 saw it: its pixels, features [W], and whether the models can read such a film."""

    pixels: NDArray[np.uint8]
    features: NDArray[np.float32]
    quality: Quality | None


class Screening:
    """Decode, stage 1 and gate.

    Args:
        folder: the binary model's unpacked archive.
        device: where the ViT runs.

    Attributes:
        precision: that the ViT runs in here, and why.
        films_read: how many films the ViT has seen.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.metadata = Metadata.read(folder)
        self.precision = choose(self.metadata.precision, self.metadata.bfloat16, device)
        self.vit = Vit(folder, device, self.precision.dtype)
        self.cascade = self.metadata.cascade
        self.quality = QualityReader.of_archive(folder)
        self.films_read = 0
        self._decoding = Decoding(partial(decode, side=self.vit.image_size))

    def screen(
        self, films: Sequence[bytes], heatmaps: Mapping[int, str] | None = None, corrected: Collection[int] = ()
    ) -> list[Screened | Refusal]:
        """One answer per film, in order; a film that is refused leaves the others untouched.

        Args:
            films: their files.
            heatmaps, corrected: as ``screen_decoded`` takes them.
        """
        return self.screen_decoded(self._decoding.decode(films), heatmaps, corrected)

    def screen_decoded(
        self,
        films: Sequence[Decoded | Refusal],
        heatmaps: Mapping[int, str] | None = None,
        corrected: Collection[int] = (),
    ) -> list[Screened | Refusal]:
        """The same of films that were decoded before, maybe in another process.

        Args:
            films: of this ViT's size, or why they are none.
            heatmaps: by a film's place, the option of its sender (``handlers.networks.heatmap.findings_asked``).
            corrected: the places of films that are put right before they are read, where they are turned or inverted.
        """
        decoded = list(films)
        asked: dict[int, tuple[str, ...]] = {}
        for place, option in (heatmaps or {}).items():
            try:
                asked[place] = findings_asked(option)
            except ValueError as fault:
                decoded[place] = Refusal.because(400, "UnknownFinding", str(fault))
        readable = {place: one.pixels for place, one in enumerate(decoded) if not isinstance(one, Refusal)}
        if not readable:
            return [answer for answer in decoded if isinstance(answer, Refusal)]
        seen = self._see(list(readable.values()), busy=len(films) > 1)
        self._put_right(seen, [number for number, place in enumerate(readable) if place in corrected])
        logits = self.vit.logits_of(np.stack([one.features for one in seen]))[:, 0].tolist()
        each = zip(logits, seen, strict=True)
        self.films_read += len(readable)
        return [
            one if isinstance(one, Refusal) else self._gate(*next(each), one, asked.get(place))
            for place, one in enumerate(decoded)
        ]

    def _see(self, films: list[NDArray[np.uint8]], busy: bool) -> list[Seen]:
        features = self.vit.features(np.stack(films), busy)
        quality = self.quality.judge(features) if self.quality else [None] * len(films)
        return [Seen(*one) for one in zip(films, features, quality, strict=True)]

    def _put_right(self, seen: list[Seen], wanted: list[int]) -> None:
        """Replaces those of the wanted films that are turned or inverted, where they can be read once they are not."""
        corrections = {
            number: Correction(turned=quality.orientation.value, inverted=quality.inverted.value)
            for number in wanted
            if (quality := seen[number].quality) and (quality.orientation.value != "upright" or quality.inverted.value)
        }
        if not corrections:
            return
        right = [put_right(seen[number].pixels, correction) for number, correction in corrections.items()]
        again = self._see(right, busy=True)
        for (number, correction), one in zip(corrections.items(), again, strict=True):
            if one.quality and one.quality.readable:
                seen[number] = one._replace(quality=one.quality.model_copy(update={"corrected": correction}))

    def _gate(self, logit: float, film: Seen, decoded: Decoded, asked: tuple[str, ...] | None) -> Screened:
        finding, encoder = self.cascade.finding_score(logit), self.metadata.shared_encoder
        version = self.vit.version(self.metadata.version)
        heatmaps = None if asked is None else Asked(asked, decoded.shape)
        screened = partial(
            Screened, finding, logit, version, heatmaps=heatmaps, quality=film.quality, image=decoded.facts
        )
        if not finding.present:
            return screened(pixels=None)
        if encoder is None:
            return screened(pixels=film.pixels)
        pixels = film.pixels if heatmaps else None  # a heatmap wants a pass of its own, with gradients
        return screened(pixels=pixels, features=film.features, encoder=encoder)


class Naming:
    """Stage 2 on the routed films of a batch only, and the report of every film.

    Args:
        folder: the disease model's unpacked archive.
        device: where the ViT runs.

    Attributes:
        precision: that the ViT runs in here, and why.
        films_read: how many films the ViT has seen.
        heatmaps_made: how many maps were made of them.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.metadata = Metadata.read(folder)
        self.precision = choose(self.metadata.precision, self.metadata.bfloat16, device)
        self.vit = Vit(folder, device, self.precision.dtype)
        self.cascade = self.metadata.cascade
        self.films_read = self.heatmaps_made = 0

    def name(self, films: Sequence[Screened | Refusal]) -> list[Report | Refusal]:
        """One report per film, in order; then the heatmaps of those films that ask for them."""
        films = [self._fitting(film) for film in films]
        routed = [film for film in films if isinstance(film, Screened) and film.routed]
        logits = iter(self._logits(routed, busy=len(films) > 1) if routed else ())
        self.films_read += len(routed)
        reports: list[Report | Refusal] = [
            film if isinstance(film, Refusal) else self._report(film, next(logits) if film.routed else None)
            for film in films
        ]
        self._add_heatmaps(films, reports)
        return reports

    def _logits(self, routed: list[Screened], busy: bool) -> NDArray[np.float32]:
        """[B, 14] by stage 1's features where a film brings them, by its pixels where not."""
        rows = [film.features for film in routed]
        alone = [place for place, row in enumerate(rows) if row is None]
        if alone:
            pixels = np.stack([film.pixels for place in alone if (film := routed[place]).pixels is not None])
            for place, row in zip(alone, self.vit.features(pixels, busy), strict=True):
                rows[place] = row
        return self.vit.logits_of(np.stack([row for row in rows if row is not None]))

    def _add_heatmaps(self, films: Sequence[Screened | Refusal], reports: list[Report | Refusal]) -> None:
        wanted: dict[int, Wanted] = {}
        for place, (film, report) in enumerate(zip(films, reports, strict=True)):
            if isinstance(film, Refusal) or isinstance(report, Refusal) or film.heatmaps is None:
                continue
            reports[place] = report.model_copy(update={"heatmaps": {}})
            if film.pixels is not None:
                present = [name for name, score in report.diseases.items() if score.present]
                turned = film.quality.corrected.turned if film.quality and film.quality.corrected else "upright"
                wanted[place] = Wanted(film.pixels, film.heatmaps.findings or present, film.heatmaps.shape, turned)
        for place, maps in zip(wanted, heatmaps_of(self.vit, list(wanted.values())), strict=True):
            reports[place] = reports[place].model_copy(update={"heatmaps": maps})
            self.heatmaps_made += len(maps)

    def _fitting(self, film: Screened | Refusal) -> Screened | Refusal:
        side, encoder = self.vit.image_size, self.metadata.shared_encoder
        if isinstance(film, Screened) and film.pixels is not None and film.pixels.shape != (side, side):
            logger.error("pixels %s reach a disease model of %d px", film.pixels.shape, side)
            return INTERNAL
        if isinstance(film, Screened) and film.encoder not in (None, encoder):
            logger.error("features of encoder %s reach a disease model of encoder %s", film.encoder, encoder)
            return INTERNAL
        return film

    def _report(self, film: Screened, logits: NDArray[np.float32] | None) -> Report:
        diseases = self.cascade.disease_scores(film.logit, logits)
        models = ModelVersions(binary=film.version, disease=self.vit.version(self.metadata.version))
        return Report(
            finding=film.finding,
            routed=film.routed,
            diseases=diseases,
            models=models,
            quality=film.quality,
            image=film.image,
        )
