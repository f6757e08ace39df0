"""Fits the checks of a film (``handlers.quality``) on training films, and chooses their levels on validation films.

Nothing is labelled for it: that a film was turned, mirrored or inverted is known, because it was done here.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from sklearn.linear_model import LogisticRegression

from handlers.networks.vit import Vit
from handlers.quality import KEY, WAYS, Levels, QualityReader, Tensors
from training.fit.features import load_features
from training.quality.changes import Film, laid

TRAIN_FILMS, VALIDATION_FILMS = 3200, 800
FEWEST = 50
"""Validation films below which no level can be told."""
COMPONENTS = 128
"""Principal ones; fewer where features are so wide that they would take over ``AXES_BYTES``."""
AXES_BYTES = 1_000_000
FALSE_ALARMS = {"unlike": 0.01, "turned": 0.01, "mirrored": 0.0275, "inverted": 0.0025}
"""Of upright validation films, that each check warns of: one in twenty in all. What is mirrored is hardest to see."""
LIKELIER = 0.5
"""No film is called turned, mirrored or inverted that is likelier not to be."""
PENALTY = 0.03
"""Inverse strength of the head's L2 penalty: of those from 0.00003 to 1 the one by which mirrored NIH validation films
are found best."""
AT_ONCE = 256
"""Films that are laid in memory."""

NEVER = Levels(unlike=0.0, turned=1.0, mirrored=1.0, inverted=1.0)

Features = NDArray[np.float32]


class FilmFeatures:
    """Features of a checkpoint's films and of what is made of them, computed once for each picture.

    Args:
        checkpoint: stage 1's folder.
        vit: opened from it.
        pixels: [N, S, S] uint8 of all films.
        cache: folder of all caches.
    """

    def __init__(self, checkpoint: Path, vit: Vit, pixels: NDArray[np.uint8], cache: Path) -> None:
        self._checkpoint, self._vit, self._pixels, self._cache = checkpoint, vit, pixels, cache

    def plain(self, rows: NDArray[np.int64]) -> Features:
        """[len(rows), W]."""
        return load_features(self._checkpoint, self._vit, self._pixels, rows, self._cache)

    def laid(self, rows: NDArray[np.int64], ways: Sequence[int]) -> Features:
        """[len(rows), W] of the films laid in these ways, numbers in ``WAYS``."""
        return self.of(laid(self._pixels[row], WAYS[way]) for row, way in zip(rows, ways, strict=True))

    def of(self, films: Iterable[Film]) -> Features:
        """[N, W] of N pictures of the films' size."""
        films, parts = iter(films), []
        while some := list(islice(films, AT_ONCE)):
            rows = np.arange(len(some))
            parts.append(load_features(self._checkpoint, self._vit, np.stack(some), rows, self._cache))
        return np.concatenate(parts)


def fit_quality(
    films: FilmFeatures, train: NDArray[np.int64], validation: NDArray[np.int64], seed: int = 0
) -> tuple[QualityReader, bytes, dict[str, Any]] | None:
    """The checks, the file that an archive holds of them, and what they were fitted on; None with too few films.

    Args:
        films: their features.
        train: rows to fit on.
        validation: rows of other patients, to choose levels by.
        seed: of the draws.
    """
    chance = np.random.default_rng(seed)
    train, validation = (
        chance.permutation(rows)[:most] for rows, most in ((train, TRAIN_FILMS), (validation, VALIDATION_FILMS))
    )
    if min(len(train), len(validation)) < FEWEST:
        return None
    plain, known = films.plain(train), films.plain(validation)
    rows, ways = draw_ways(train, chance)
    mean, scale = plain.mean(axis=0), plain.std(axis=0) + 1e-6
    standard = (plain - mean) / scale
    lying = np.concatenate([standard, (films.laid(rows, ways) - mean) / scale])
    head = fit_head(lying, np.concatenate([np.zeros(len(train), np.int64), ways]))
    tensors: Tensors = {"mean": mean, "scale": scale, **head, **fit_components(standard)}
    # Half precision for what is large; distances and levels are of what is stored.
    stored: Tensors = {
        name: of.astype(np.float16) if name in ("axes", "weights") else of.astype(np.float32)
        for name, of in tensors.items()
    }
    unknown = QualityReader(NEVER, {**stored, "distances": np.zeros(0)})
    stored["distances"] = np.sort(unknown.scores(known).distance)
    levels = choose_levels(QualityReader(NEVER, stored), known)
    file = save({name: np.ascontiguousarray(of) for name, of in stored.items()}, {KEY: levels.model_dump_json()})
    record = {"films": {"train": len(train), "validation": len(validation)}, "levels": levels.model_dump()}
    return QualityReader(levels, stored), file, record


def draw_ways(train: NDArray[np.int64], chance: np.random.Generator) -> tuple[NDArray[np.int64], list[int]]:
    """Films, and the ways in which they are to be laid, numbers in ``WAYS``: each film mirrored alone, and a
    third of them in one of the other ways but upright."""
    mirrored = WAYS.index(("upright", True, False))
    others = chance.choice([way for way in range(1, len(WAYS)) if way != mirrored], len(train) // 3)
    return np.concatenate([train, train[: len(others)]]), [mirrored] * len(train) + others.tolist()


def fit_head(standard: Features, ways: NDArray[np.int64]) -> Tensors:
    """A linear head by logistic regression: [N, W] and [N] -> ``weights`` [16, W], ``bias`` [16].

    A way that no film was laid in has weights of 0 and a bias that makes it impossible.
    """
    fitted = LogisticRegression(C=PENALTY, max_iter=300).fit(standard, ways)
    weights = np.zeros((len(WAYS), standard.shape[1]), np.float32)
    bias = np.full(len(WAYS), -1e4, np.float32)
    weights[fitted.classes_], bias[fitted.classes_] = fitted.coef_, fitted.intercept_
    return {"weights": weights, "bias": bias}


def fit_components(standard: Features) -> Tensors:
    """[N, W] -> ``axes``, ``spread`` and ``noise`` of probabilistic principal components (maximum likelihood: Tipping,
    Bishop 1999, equation 8)."""
    width = standard.shape[1]
    number = max(1, min(COMPONENTS, AXES_BYTES // (2 * width), len(standard) // 2, width - 1))
    _, lengths, axes = np.linalg.svd(standard, full_matrices=False)
    variances = lengths**2 / len(standard)
    noise = variances[number:].sum() / (width - number)
    return {"axes": axes[:number].T, "spread": np.sqrt(variances[:number]), "noise": np.sqrt([noise + 1e-6])}


def choose_levels(reader: QualityReader, known: Features) -> Levels:
    """Those at which so many upright validation films are warned of, and fewer where a head is that sure."""
    scores = reader.scores(known)
    levels = {
        check: max(LIKELIER, float(np.quantile(scores.of(check), 1 - FALSE_ALARMS[check], method="higher")))
        for check in ("turned", "mirrored", "inverted")
    }
    return Levels(unlike=FALSE_ALARMS["unlike"], **{check: min(1.0, level) for check, level in levels.items()})
