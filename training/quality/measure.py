"""What the checks of a film do on test films: false alarms, and how many wrongly laid ones they find."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from handlers.networks.vit import Vit, serving_device
from handlers.quality import WAYS, QualityReader
from handlers.report import Quality
from training.data.films import Films
from training.fit.config import DataConfig
from training.quality.fit import FilmFeatures, fit_quality

TEST_FILMS, LAID_FILMS = 300, 100
CHECKS = {
    "turned by 90": (("90", False, False), "turned"),
    "turned by 180": (("180", False, False), "turned"),
    "turned by 270": (("270", False, False), "turned"),
    "mirrored": (("upright", True, False), "mirrored"),
    "inverted": (("upright", False, True), "inverted"),
}
"""How test films are laid, and the check that is to find it."""


def quality_of_run(
    checkpoint: Path, films: Films, pixels: NDArray[np.uint8]
) -> tuple[bytes, dict[str, Any], NDArray[np.float64]] | tuple[None, None, None]:
    """The file that an archive holds of the checks, what an evaluation says of them, and ``in_distribution`` [V] of the
    validation films; nothing with too few films.

    Args:
        checkpoint: of stage 1.
        films: the run's.
        pixels: [N, S, S] uint8, row for row.
    """
    config = yaml.safe_load((checkpoint / "training.yaml").read_text())
    vit = Vit(checkpoint, serving_device(), torch.bfloat16 if config["precision"] == "bf16" else torch.float32)
    features = FilmFeatures(checkpoint, vit, pixels, Path(DataConfig(**config["data"]).cache))
    fitted = fit_quality(features, films.rows("train"), films.rows("validation"))
    if fitted is None:
        return None, None, None
    reader, file, record = fitted
    likeness = reader.in_distribution(reader.scores(features.plain(films.rows("validation"))).distance)
    return file, {**record, "bytes": len(file), "test": measure(reader, features, films.rows("test"))}, likeness


def measure(reader: QualityReader, films: FilmFeatures, rows: NDArray[np.int64], seed: int = 0) -> dict[str, Any]:
    """Shares of test films, and areas under the ROC curve.

    ``false_alarms``: of upright films, by check, and those with any. ``found``: of films laid wrongly, by ``CHECKS``.
    """
    rows = np.random.default_rng(seed).permutation(rows)[:TEST_FILMS]
    plain, some = films.plain(rows), rows[:LAID_FILMS]
    upright = reader.judge(plain)
    alarms = {kind: float(np.mean([flagged(of, kind) for of in upright])) for kind in KINDS}
    found = {}
    for name, (way, kind) in CHECKS.items():
        laid = films.laid(some, [WAYS.index(way)] * len(some))
        found[name] = {
            "films": len(laid),
            "share": float(np.mean([flagged(of, kind) for of in reader.judge(laid)])),
            "area": area(reader.scores(plain).of(kind), reader.scores(laid).of(kind)),
        }
    return {"films": len(upright), "false_alarms": alarms, "found": found}


KINDS = ("unlike", "turned", "mirrored", "inverted", "any")


def flagged(quality: Quality, kind: str) -> bool:
    """Whether a check warns of a film."""
    if kind == "any":
        return bool(quality.warnings)
    if kind == "unlike":
        return quality.unlike
    return quality.orientation.value != "upright" if kind == "turned" else getattr(quality, kind).value


def area(without: NDArray[np.floating[Any]], those: NDArray[np.floating[Any]]) -> float:
    """[N] and [M] scores -> the area under the ROC curve."""
    return float(roc_auc_score(np.repeat([0, 1], [len(without), len(those)]), np.concatenate([without, those])))
