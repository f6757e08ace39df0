"""A linear probe: scikit-learn fits a stage's head on the features of a frozen backbone.

Logistic regression per label on standardised features (Alain, Bengio, "Understanding intermediate layers using linear
classifier probes", 2016); the standardisation is then folded into the head, so that the result is a checkpoint like any
other.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from handlers.networks.network import Network
from handlers.networks.vit import THREADS, Vit, serving_device
from training.data.films import Films
from training.evaluation.metrics import auc, labelled, mean_auc
from training.fit.config import ProbeConfig, TrainConfig
from training.fit.features import load_features
from training.fit.model import build_model, save_checkpoint
from workflows.files.atomic import scratch_folder

STEPS = 500
"""Of L-BFGS at most."""

Features = NDArray[np.float32]
Targets = NDArray[np.int8]


class Head(NamedTuple):
    """One label's line of the head, on standardised features.

    Attributes:
        c: inverse strength of its penalty.
        weights: [W].
        bias: beside them.
    """

    c: float
    weights: NDArray[np.float64]
    bias: float

    def logits(self, features: NDArray[Any]) -> NDArray[np.float64]:
        return features @ self.weights + self.bias


def fit_probe(
    config: TrainConfig,
    probe: ProbeConfig,
    films: Films,
    pixels: NDArray[np.uint8],
    targets: Targets,
    labels: list[str],
) -> tuple[Network, dict[str, Any]]:
    """The network with its fitted head, and the line of ``epochs.jsonl`` about it.

    Args:
        config: the run's.
        probe: its probe.
        films: training films to fit on, validation films to choose each label's penalty by.
        pixels: [N, S, S] uint8, row for row.
        targets: [N, L].
        labels: their names.

    Raises:
        DataError: as ``build_model`` and ``load_features``.
        NotWritten: the disk is full; the features that are finished stay.
    """
    network, cache = build_model(config.model, labels), Path(config.data.cache)
    train, validation = films.rows("train"), films.rows("validation")
    truth = targets[train]
    with scratch_folder(cache / "backbone") as folder:
        save_checkpoint(network, config.model, folder)
        vit = Vit(folder, serving_device(), torch.bfloat16 if config.precision == "bf16" else torch.float32)
        learned, judged = (load_features(folder, vit, pixels, rows, cache) for rows in (train, validation))
        if probe.flip:
            mirrored = load_features(folder, vit, pixels, train, cache, mirrored=True)
            learned, truth = np.concatenate([learned, mirrored]), np.concatenate([truth, truth])
    scaler = StandardScaler().fit(learned)
    learned, judged = scaler.transform(learned), scaler.transform(judged)
    heads = fit_heads(learned, truth, judged, targets[validation], probe.c)
    with torch.no_grad():  # the standardisation goes into the head
        weights = np.stack([head.weights for head in heads]) / scaler.scale_
        network.head.weight.copy_(torch.from_numpy(weights))
        network.head.bias.copy_(torch.tensor([head.bias for head in heads]) - torch.from_numpy(weights @ scaler.mean_))
    scores = np.stack([head.logits(judged) for head in heads], axis=1)
    line = {
        "epoch": 1,
        "loss": _loss(truth, np.stack([head.logits(learned) for head in heads], axis=1)),
        "validation_loss": _loss(targets[validation], scores),
        "validation_auc": mean_auc(targets[validation], scores),
        "c": {label: head.c for label, head in zip(labels, heads, strict=True)},
    }
    return network, line


def fit_heads(learned: Features, truth: Targets, judged: Features, answers: Targets, grid: list[float]) -> list[Head]:
    """A head per label: logistic regression, the penalty of the highest AUC on the films ``judged``.

    A label that ``judged`` has one outcome of takes the median penalty of the others.

    Args:
        learned, truth: [N, W] and [N, L] in {-1, 0, 1}, to fit on; standardised. A film is left out of a label of -1.
        judged, answers: [V, W] and [V, L], to choose by.
        grid: inverse strengths.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        paths = list(pool.map(lambda column: _path(learned, column, sorted(grid)), truth.T))
    best = [_best(path, judged, column) for path, column in zip(paths, answers.T, strict=True)]
    chosen = [head.c for head in best if head]
    usual = float(np.quantile(chosen or grid, 0.5, method="lower"))
    return [head or next(one for one in path if one.c == usual) for head, path in zip(best, paths, strict=True)]


def _path(learned: Features, column: NDArray[np.int8], grid: list[float]) -> list[Head]:
    """A label's heads from the strongest penalty to the weakest, each fit begun where the one before ended."""
    column, learned = labelled(column, learned)
    if len(np.unique(column)) < 2:
        share = (column.sum() + 0.5) / (len(column) + 1)
        return [Head(c, np.zeros(learned.shape[1]), float(np.log(share / (1 - share)))) for c in grid]
    fit, heads = LogisticRegression(max_iter=STEPS, warm_start=True), []
    for c in grid:
        fit.set_params(C=c).fit(learned, column)
        heads.append(Head(c, fit.coef_[0].astype(np.float64), float(fit.intercept_[0])))
    return heads


def _best(path: list[Head], judged: Features, column: NDArray[np.int8]) -> Head | None:
    areas = [auc(column, head.logits(judged)) for head in path]
    known = [area for area in areas if area is not None]
    return path[areas.index(max(known))] if known else None  # of equals the strongest penalty


def _loss(targets: Targets, logits: NDArray[np.float64]) -> float:
    """Mean binary cross-entropy over films and labels; what is not labelled does not count."""
    return float((np.logaddexp(0, logits) - targets * logits)[targets >= 0].mean())
