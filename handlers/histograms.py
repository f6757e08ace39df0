"""Histograms of what was seen in films. Validation films (``training.evaluation.reference``) and those that are served
(``gateway.records``) have the same bins, so that the two can be compared (``gateway.drift``).

Probabilities are binned by their logit, from -7 to 7 in quarters: most of a rare finding's lie below 0.05. Beside them
``in_distribution`` and ``brightness`` by their value, ``size`` (the square root of a film's pixels) by octaves, and
``modality`` as it is.
"""

from bisect import bisect_right
from collections.abc import Sequence
from math import exp, sqrt
from typing import Annotated, get_args

from pydantic import AfterValidator

from handlers.findings import FINDINGS, LABELS
from handlers.modalities import Modality
from handlers.report import FilmFacts, Report

IN_DISTRIBUTION, BRIGHTNESS, SIZE, MODALITY = "in_distribution", "brightness", "size", "modality"
FILM = (BRIGHTNESS, SIZE, MODALITY)
"""What is known of every film before a model has seen it."""

LOGITS = tuple(quarter / 4 for quarter in range(-28, 29))
_PROBABILITY = tuple(1 / (1 + exp(-logit)) for logit in LOGITS)
_UNIT = tuple(step / 50 for step in range(1, 50))
_SIZE = tuple(32 * 2 ** (step / 8) for step in range(1, 67))  # px, up to 9742

EDGES: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(LABELS, _PROBABILITY),
    IN_DISTRIBUTION: _UNIT,
    BRIGHTNESS: _UNIT,
    SIZE: _SIZE,
}
"""Between the bins of each quantity, rising; a value on an edge is above it."""
MODALITIES: tuple[str, ...] = ("none", *get_args(Modality))
"""The bins of ``modality``; ``none``, where the film does not say."""
QUANTITIES = (*EDGES, MODALITY)


def number_of_bins(quantity: str) -> int:
    return len(MODALITIES) if quantity == MODALITY else len(EDGES[quantity]) + 1


def _known(histograms: dict[str, list[int]]) -> dict[str, list[int]]:
    for quantity, films in histograms.items():
        if quantity not in QUANTITIES or len(films) != number_of_bins(quantity) or min(films) < 0:
            raise ValueError(f"{quantity!r} is no histogram of this version's")
    return histograms


Histograms = Annotated[dict[str, list[int]], AfterValidator(_known)]
"""By quantity, the number of films in each bin."""


def histogram(quantity: str, values: Sequence[float]) -> list[int]:
    """The number of ``values`` in each bin of a quantity that is a number."""
    films = [0] * number_of_bins(quantity)
    for value in values:
        films[bisect_right(EDGES[quantity], value)] += 1
    return films


def film_bins(image: FilmFacts) -> dict[str, int]:
    """The bin of each of ``FILM``."""
    return {
        BRIGHTNESS: bisect_right(EDGES[BRIGHTNESS], image.brightness),
        SIZE: bisect_right(EDGES[SIZE], sqrt(image.width * image.height)),
        MODALITY: MODALITIES.index(image.modality or "none"),
    }


def bins_of(report: Report) -> dict[str, int]:
    """The bin of each quantity that a report has. Those of the 14 findings are of routed films alone."""
    scores = {name: report.diseases[name] for name in FINDINGS} if report.routed else {}
    values = {name: score.probability for name, score in ({LABELS[0]: report.finding} | scores).items()}
    quality = getattr(report, "quality", None)
    if quality is not None:
        values[IN_DISTRIBUTION] = quality.in_distribution
    bins = {name: bisect_right(EDGES[name], value) for name, value in values.items()}
    return bins | (film_bins(report.image) if report.image else {})
