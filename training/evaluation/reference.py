"""What served films are compared with: histograms of the validation films, read as they are served."""

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import rankdata

from handlers.calibration import Platt
from handlers.decoding.containers import is_dicom
from handlers.decoding.dicom import modality_of, size_of
from handlers.findings import FINDING, FINDINGS, STAGE_LABELS
from handlers.histograms import (
    BRIGHTNESS,
    IN_DISTRIBUTION,
    LOGITS,
    MODALITIES,
    MODALITY,
    SIZE,
    Histograms,
    histogram,
)
from training.evaluation.metrics import Scored

Part = TypeVar("Part")


class Reference(NamedTuple):
    """Films, as those that are served are compared with them.

    Attributes:
        histograms: by quantity; those of the 14 findings are of routed films.
        design_effects: by quantity, how many of these films tell as much as one would if no patient had several (Kish,
            *Survey Sampling*, 1965): the variance of the mean rank by patients over that by films.
    """

    histograms: Histograms
    design_effects: dict[str, float]


def reference_of(
    paths: Sequence[Path],
    pixels: NDArray[np.uint8],
    scored: Scored,
    patients: NDArray[np.str_],
    likeness: NDArray[np.float64] | None = None,
) -> Reference:
    """What is known of films.

    Args:
        paths: [N] of the films, of which only headers are read.
        pixels: [N, S, S].
        scored: what the cascade makes of them.
        patients: [N], whose they are.
        likeness: [N], their ``in_distribution``, where the run has the checks that say it.
    """
    shapes, modalities = zip(*(_header(path) for path in paths), strict=True)
    diseases = scored.ways["ungated"][scored.routed]
    values: dict[str, Sequence[float]] = {
        FINDING: scored.finding.tolist(),
        **{name: of.tolist() for name, of in zip(FINDINGS, diseases.T, strict=True)},
        BRIGHTNESS: [float(film.mean()) / 255.0 for film in pixels],
        SIZE: [sqrt(rows * columns) for rows, columns in shapes],
        **({} if likeness is None else {IN_DISTRIBUTION: likeness.tolist()}),
    }
    histograms = {name: histogram(name, of) for name, of in values.items()}
    values[MODALITY] = [float(MODALITIES.index(name)) for name in modalities]
    whose = {name: patients[scored.routed] if name in FINDINGS else patients for name in values}
    return Reference(
        histograms | {MODALITY: [modalities.count(name) for name in MODALITIES]},
        {name: design_effect(np.array(of), whose[name]) for name, of in values.items()},
    )


def design_effect(values: NDArray[np.float64], patients: NDArray[np.str_]) -> float:
    """[N] and [N] -> at least 1."""
    ranks = rankdata(values)
    apart = ranks - ranks.mean() if len(ranks) else ranks
    _, whose = np.unique(patients, return_inverse=True)
    by_film = float((apart**2).sum())
    return max(1.0, float((np.bincount(whose, apart) ** 2).sum()) / by_film) if by_film else 1.0


def of_stage(reference: Mapping[str, Part], stage: str) -> dict[str, Part]:
    """The part of a stage's archive: its own labels', and with stage 1 all that is no finding's."""
    others = {name for labels in STAGE_LABELS.values() for name in labels} - set(STAGE_LABELS[stage])
    if stage == "disease":
        return {name: films for name, films in reference.items() if name in STAGE_LABELS[stage]}
    return {name: films for name, films in reference.items() if name not in others}


def recalibrated(films: Sequence[int], old: Platt, new: Platt) -> list[int]:
    """The histogram of a label's probabilities, were their calibration another one; films keep their number and order.

    Within a bin the films are taken to lie evenly.
    """
    edges = np.array(LOGITS)
    before = ((edges - new.intercept) / new.slope) * old.slope + old.intercept  # of the same model's logit
    outer = edges[1] - edges[0]
    below = np.interp(before, [edges[0] - outer, *edges, edges[-1] + outer], np.concatenate([[0], np.cumsum(films)]))
    return np.diff(np.rint([0.0, *below, sum(films)]).astype(np.int64)).tolist()


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """Rows and columns, and the modality, of a film that was read before."""
    with path.open("rb") as file:
        if is_dicom(file.read(1024)):
            file.seek(0)
            data = file.read()
            return size_of(data), modality_of(data) or "none"
        file.seek(0)
        with Image.open(file) as picture:
            return (picture.height, picture.width), "none"
