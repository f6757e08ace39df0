"""Chooses the operating points on validation, then scores the pair of models on the test list.

    python -m training.evaluate --run runs/demo

Reads ``binary/checkpoint`` and ``disease/checkpoint`` of the run, writes beside them ``thresholds.json``,
``evaluation.json``, ``evaluation.txt`` (the printed table) and ``predictions.csv`` (the test list's).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from handlers.findings import FINDINGS
from handlers.reading import FINDING
from handlers.vit import Vit, serving_device
from training.data import DataError, Films, read_films
from training.evaluation_table import print_evaluation
from training.metrics import binary_metrics, disease_metrics
from training.pixels import load_pixels
from training.thresholds import disease_thresholds, threshold_for_sensitivity

SENSITIVITY = 0.95
"""Stage 1's on validation, unless told: a gate at 0.5 costs far more disease AUC than it saves work."""
BATCH = 64
STAGES = ("binary", "disease")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder with the two stages' runs")
    parser.add_argument("--sensitivity", type=float, default=SENSITIVITY, help="stage 1's, on validation (%(default)s)")
    arguments = parser.parse_args()
    try:
        evaluate(arguments.run, arguments.sensitivity)
    except (DataError, FileNotFoundError) as fault:
        sys.exit(f"error: {fault}")


def evaluate(run: Path, sensitivity: float = SENSITIVITY) -> dict[str, Any]:
    """Scores the run's two checkpoints; returns what ``evaluation.json`` holds.

    Raises:
        DataError: the two stages were trained on different data or splits.
        FileNotFoundError: a checkpoint is missing.
    """
    films, pixels = _films_of(run)
    stages = {name: Vit(run / name / "checkpoint", serving_device()) for name in STAGES}
    validation, test = films.rows("validation"), films.rows("test")
    scores = {name: _predict(vit, pixels, np.concatenate([validation, test]), name) for name, vit in stages.items()}
    known = {name: score[: len(validation)] for name, score in scores.items()}
    unseen = {name: score[len(validation) :] for name, score in scores.items()}

    gate = threshold_for_sensitivity(films.findings[validation, 0], known["binary"][:, 0], sensitivity)
    thresholds = {FINDING: gate, **disease_thresholds(films.diseases[validation], known["disease"])}
    evaluation = {
        "data": films.summary(),
        "sensitivity_wanted": sensitivity,
        "validation": {"binary": binary_metrics(films.findings[validation, 0], known["binary"][:, 0], gate)},
        "test": {
            "binary": binary_metrics(films.findings[test, 0], unseen["binary"][:, 0], gate),
            **disease_metrics(films.diseases[test], unseen["binary"][:, 0], unseen["disease"], gate),
        },
        "thresholds": thresholds,
    }
    _write(run / "thresholds.json", json.dumps(thresholds, indent=2))
    _write(run / "predictions.csv", _predictions(films, test, unseen).to_csv(index=False))
    _write(run / "evaluation.json", json.dumps(evaluation, indent=2, allow_nan=False))
    _write(run / "evaluation.txt", print_evaluation(evaluation))
    return evaluation


def _films_of(run: Path) -> tuple[Films, NDArray[np.uint8]]:
    configs = [yaml.safe_load((run / name / "checkpoint" / "training.yaml").read_text()) for name in STAGES]
    binary, disease = configs
    if binary["data"] != disease["data"] or binary["model"]["image_size"] != disease["model"]["image_size"]:
        raise DataError(
            f"{run}: the two stages were trained with different 'data' sections or image sizes; "
            "train both with the same ones, or a film of one's test list may be in the other's training"
        )
    data = binary["data"]
    films = read_films(Path(data["folder"]), data["validation"], data["split_seed"], data["skip_unreadable"])
    return load_pixels(films, binary["model"]["image_size"], Path(data["cache"]), data["skip_unreadable"])


def _predict(vit: Vit, pixels: NDArray[np.uint8], rows: NDArray[np.int64], stage: str) -> NDArray[np.float32]:
    """[len(rows), L] in [0, 1]: the stage on every film, whatever the gate would say."""
    starts = tqdm(range(0, len(rows), BATCH), desc=f"{stage} predictions", unit="batch", disable=None)
    return np.concatenate([vit.probabilities(pixels[rows[start : start + BATCH]]) for start in starts])


def _predictions(films: Films, rows: NDArray[np.int64], scores: dict[str, NDArray[np.float32]]) -> pd.DataFrame:
    table = pd.DataFrame({"Image Index": films.table["image"].to_numpy()[rows], FINDING: scores["binary"][:, 0]})
    return table.assign(**dict(zip(FINDINGS, scores["disease"].T, strict=True)))


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


if __name__ == "__main__":
    main()
