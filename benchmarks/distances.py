"""Which distance to the training films parts films best from what code makes of them: on validation films.

    python -m benchmarks.distances --run runs/nih-probe

Fits each on training films, and prints the area under the ROC curve between validation films and pictures made of some
of them (``benchmarks.pictures.NO_FILMS``). ``mahalanobis`` is what is served (``handlers.quality``); ``nearest`` the
distance to the tenth nearest neighbour (Sun et al., ICML 2022), of features and of unit features, as the paper has it;
``relative`` the relative Mahalanobis distance (Ren et al., 2021), of classes by view position and finding.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.pictures import NO_FILMS
from handlers.networks.vit import Vit, serving_device
from handlers.quality import QualityReader
from training.fit.config import DataConfig
from training.predict import films_of
from training.quality.fit import NEVER, TRAIN_FILMS, VALIDATION_FILMS, FilmFeatures, fit_components

SPOILT, NEIGHBOURS = 200, 10

Features = NDArray[np.float32]
Distance = Callable[[Features], NDArray[np.floating]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distances", description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True)
    checkpoint = parser.parse_args().run / "binary" / "checkpoint"
    config = yaml.safe_load((checkpoint / "training.yaml").read_text())
    films, pixels = films_of(config)
    device = serving_device()
    vit = Vit(checkpoint, device, torch.bfloat16 if config["precision"] == "bf16" else torch.float32)
    features = FilmFeatures(checkpoint, vit, pixels, Path(DataConfig(**config["data"]).cache))
    chance = np.random.default_rng(0)
    train = chance.permutation(films.rows("train"))[:TRAIN_FILMS]
    validation = chance.permutation(films.rows("validation"))[:VALIDATION_FILMS]
    plain = features.plain(train)
    mean, scale = plain.mean(axis=0), plain.std(axis=0) + 1e-6
    known = (features.plain(validation) - mean) / scale
    spoilt = {
        kind: (features.of(spoil(pixels[row], chance) for row in validation[:SPOILT]) - mean) / scale
        for kind, spoil in NO_FILMS.items()
    }
    classes = np.char.add(films.table["view"].to_numpy(dtype=str)[train], films.findings[train, 0].astype(str))
    for name, far in distances((plain - mean) / scale, classes).items():
        near = far(known)
        areas = {
            kind: roc_auc_score(np.repeat([0, 1], [len(near), len(some)]), np.concatenate([near, far(some)]))
            for kind, some in spoilt.items()
        }
        print(f"{name:14}" + "".join(f"  {kind} {area:.4f}" for kind, area in areas.items()))
    return 0


def distances(standard: Features, classes: NDArray[np.str_]) -> dict[str, Distance]:
    """Each of [B, W] standardised features -> [B]."""
    parts = fit_components(standard)
    width = standard.shape[1]
    blank = {"mean": np.zeros(width), "scale": np.ones(width), "weights": np.zeros((16, width)), "bias": np.zeros(16)}
    served = QualityReader(NEVER, {**blank, **parts})
    unit = standard / np.linalg.norm(standard, axis=1, keepdims=True)

    def nearest(films: Features, bank: Features) -> Features:
        squares = (films**2).sum(axis=1)[:, None] + (bank**2).sum(axis=1) - 2 * films @ bank.T
        return np.partition(squares, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]

    return {
        "mahalanobis": lambda films: served.scores(films).distance,
        "nearest": lambda films: nearest(films, standard),
        "nearest, unit": lambda films: nearest(films / np.linalg.norm(films, axis=1, keepdims=True), unit),
        "relative": relative(standard @ parts["axes"] / parts["spread"], classes, parts["axes"] / parts["spread"]),
    }


def relative(placed: Features, classes: NDArray[np.str_], axes: Features) -> Distance:
    """Of the nearest class, with the covariance within classes, less that of all films with their own."""
    names = np.unique(classes)
    within = np.mean([np.cov(placed[classes == name], rowvar=False) for name in names], axis=0)
    ridge = 1e-3 * np.eye(len(within))
    of_class, of_all = (np.linalg.inv(one + ridge) for one in (within, np.cov(placed, rowvar=False)))

    def squared(films: Features, mean: Features, inverse: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.einsum("ni,ij,nj->n", films - mean, inverse, films - mean)

    def distance(films: Features) -> NDArray[np.float64]:
        there = films @ axes
        classwise = [squared(there, placed[classes == name].mean(axis=0), of_class) for name in names]
        return np.min(classwise, axis=0) - squared(there, placed.mean(axis=0), of_all)

    return distance


if __name__ == "__main__":
    sys.exit(main())
