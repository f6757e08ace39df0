"""95% intervals of AUC and AUPRC from a bootstrap over patients.

Films of one patient resemble each other, so patients are drawn, not films: a film's weight in a resample is how often
its patient was drawn (the cluster bootstrap: Field CA, Welsh AH, Bootstrapping clustered data, J R Stat Soc B 2007).
The intervals are percentiles (Efron B, Tibshirani RJ, An Introduction to the Bootstrap, 1993).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (2.5, 97.5)
CHUNK = 8
"""Resamples at a time: few enough that a chunk's running sums stay in the processor's cache."""

Targets = NDArray[np.int8]
"""1, 0, or -1 where a film is not labelled: it takes no part in that label's areas."""
Scores = NDArray[np.floating[Any]]
Areas = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate on the films as they are, and the bounds of its 95% interval; None where it cannot be had."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class LabelIntervals:
    """One label's areas.

    Attributes:
        positives: films with the label.
        negatives: films without it; with neither number nobody has labelled the films for it.
        auc: area under the ROC curve.
        auprc: average precision.
        left_out: resamples with one outcome only, which both intervals do without.
    """

    positives: int
    negatives: int
    auc: Interval
    auprc: Interval
    left_out: int


@dataclass(frozen=True)
class Intervals:
    """What ``dataclasses.asdict`` turns into plain JSON, None where a figure cannot be had.

    Attributes:
        films: number of them.
        patients: number of them.
        resamples: number of them.
        labels: by name, in the order given.
        mean_auc: over the labels that have both outcomes, in each resample anew.
        mean_auprc: likewise.
    """

    films: int
    patients: int
    resamples: int
    labels: dict[str, LabelIntervals]
    mean_auc: Interval
    mean_auprc: Interval


def intervals(
    targets: Targets,
    scores: Scores,
    patients: NDArray[Any],
    names: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
    less: Scores | None = None,
) -> Intervals:
    """AUC and AUPRC of each label and their means, with 95% intervals.

    Args:
        targets: [N, L] in {-1, 0, 1}.
        scores: [N, L], finite; only their order matters.
        patients: [N], whose film it is.
        names: L of them.
        resamples: how many.
        seed: of the draws; the same seed and patients give the same resamples.
        less: [N, L] other scores, whose areas on the same resamples are taken off those of ``scores``.

    Raises:
        ValueError: shapes that do not fit together.
    """
    areas = _resampled(targets, scores, patients, names, resamples, seed)
    if less is not None:
        areas -= _resampled(targets, less, patients, names, resamples, seed)
    auc, auprc = areas
    labels = {
        name: LabelIntervals(
            positives=int((targets[:, label] == 1).sum()),
            negatives=int((targets[:, label] == 0).sum()),
            auc=_interval(auc[:, label]),
            auprc=_interval(auprc[:, label]),
            left_out=int(np.isnan(auc[1:, label]).sum()),
        )
        for label, name in enumerate(names)
    }
    return Intervals(
        films=len(patients),
        patients=len(np.unique(patients)),
        resamples=resamples,
        labels=labels,
        mean_auc=_interval(_mean(auc)),
        mean_auprc=_interval(_mean(auprc)),
    )


def share_intervals(
    flags: NDArray[np.bool_], counted: NDArray[np.bool_], patients: NDArray[Any], resamples: int = 1000, seed: int = 0
) -> list[Interval]:
    """Of each column the share of the counted films that have its flag, with a 95% interval over patients.

    Args:
        flags: [N, K].
        counted: [N, K].
        patients: [N], whose film it is.
        resamples: how many; those that draw no counted film are left out.
        seed: of the draws.
    """
    both = np.concatenate([flags & counted, counted], axis=1).astype(np.float64)
    chunks = chain([np.ones((1, len(patients)), np.int32)], patient_weights(patients, resamples, seed))
    sums = np.concatenate([weights @ both for weights in chunks])
    of, among = np.split(sums, 2, axis=1)
    shares = np.divide(of, among, out=np.full(of.shape, np.nan), where=among > 0)
    return [_interval(column) for column in shares.T]


def patient_weights(patients: NDArray[Any], resamples: int, seed: int) -> Iterator[NDArray[np.int32]]:
    """Chunks of [R, N]: how often each film's patient was drawn, in as many draws as there are patients."""
    known, owner = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = rng.integers(len(known), size=(rows, len(known))) + np.arange(rows)[:, None] * len(known)
        counts = np.bincount(drawn.ravel(), minlength=rows * len(known)).reshape(rows, len(known))
        yield counts.astype(np.int32)[:, owner]


def weighted_areas(targets: Targets, scores: Scores, chunks: Iterable[NDArray[np.int32]]) -> Areas:
    """[N, L], [N, L] and chunks that make [R, N] weights -> [2, R, L]: AUC and AUPRC, NaN where an outcome weighs 0.

    The figures of scikit-learn's ``roc_auc_score`` and ``average_precision_score`` with ``sample_weight``, ties
    included, for all rows of a chunk at once.
    """
    rankings = [_Ranking(targets[:, label], scores[:, label]) for label in range(targets.shape[1])]
    areas = [np.stack([ranking.areas(weights) for ranking in rankings], axis=-1) for weights in chunks]
    return np.concatenate(areas, axis=1)


class _Ranking:
    """Labelled films in descending order of a score, cut at its ties; a cut without a positive changes neither area."""

    def __init__(self, targets: Targets, scores: Scores) -> None:
        known = np.flatnonzero(targets >= 0)
        self.order = known[np.argsort(-scores[known], kind="stable")]
        ranked, hit = scores[self.order], targets[self.order] == 1
        self.positives = self.order[hit]
        ends = np.append(np.flatnonzero(np.diff(ranked)) + 1, len(ranked))
        hits = np.append(0, np.cumsum(hit))[np.append(0, ends)]
        kept = np.diff(hits) > 0
        self.films = np.append(0, ends[:-1])[kept], ends[kept]
        self.hits = hits[:-1][kept], hits[1:][kept]

    def areas(self, weights: NDArray[np.int32]) -> Areas:
        """[R, N] -> [2, R]."""
        seen, found = _running(weights, self.order), _running(weights, self.positives)
        seen_before, seen_after = (seen[:, edge] for edge in self.films)
        found_before, found_after = (found[:, edge] for edge in self.hits)
        gained = (found_after - found_before).astype(np.float64)
        wrong_before, wrong_after = seen_before - found_before, seen_after - found_after
        positive = found[:, -1].astype(np.float64)
        negative = seen[:, -1] - positive
        precision = found_after / np.maximum(seen_after, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            # A positive loses to the negatives above it, and half of those it ties with.
            auc = 1 - (gained * (wrong_before + wrong_after)).sum(axis=1) / (2 * positive * negative)
            auprc = (gained * precision).sum(axis=1) / positive
        return np.where(positive * negative > 0, np.stack([auc, auprc]), np.nan)


def _running(weights: NDArray[np.int32], order: NDArray[np.int64]) -> NDArray[np.int32]:
    """[R, N] and [M] -> [R, M + 1]: running sums in that order, from 0."""
    sums = np.zeros((len(weights), len(order) + 1), np.int32)
    np.cumsum(weights.take(order, axis=1), axis=1, out=sums[:, 1:])
    return sums


def _resampled(
    targets: Targets, scores: Scores, patients: NDArray[Any], names: Sequence[str], resamples: int, seed: int
) -> Areas:
    """[2, 1 + R, L]: AUC and AUPRC on the films as they are, then on each resample."""
    if not (targets.shape == scores.shape == (len(patients), len(names))):
        raise ValueError(
            f"targets are {targets.shape}, scores {scores.shape}; {len(patients)} patients and {len(names)} names "
            f"make ({len(patients)}, {len(names)})"
        )
    as_they_are = np.ones((1, len(patients)), np.int32)
    return weighted_areas(targets, scores, chain([as_they_are], patient_weights(patients, resamples, seed)))


def _mean(areas: Areas) -> Areas:
    """[1 + R, L] -> [1 + R] over what is known of each row, NaN where nothing is."""
    return np.ma.masked_invalid(areas).mean(axis=1).filled(np.nan)


def _interval(areas: Areas) -> Interval:
    """[1 + R] -> the first as the value, percentiles of the others, less those unknown."""
    value, drawn = areas[0], areas[1:]
    drawn = drawn[~np.isnan(drawn)]
    if np.isnan(value) or not len(drawn):
        return Interval(None if np.isnan(value) else float(value), None, None)
    low, high = np.percentile(drawn, PERCENTILES)
    return Interval(float(value), float(low), float(high))
