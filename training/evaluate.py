"""Calibrates and chooses the operating points on validation, then scores the pair of models on the test list.

    python -m training.evaluate --run runs/demo
    python -m training.evaluate --predictions FILE.csv --data DIR     # any model's table: training/evaluation/score.py

Reads ``binary/checkpoint`` and ``disease/checkpoint`` of the run, writes beside them ``thresholds.json``,
``evaluation.json``, ``evaluation.txt`` (the printed table) and ``predictions.csv`` (the test list's).
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from handlers.calibration import UNCALIBRATED, Platt, calibrated
from handlers.findings import FINDINGS
from handlers.reading import FINDING
from training.data.films import Films
from training.evaluation import score
from training.evaluation.bootstrap import intervals
from training.evaluation.calibration import calibration_errors, cross_fitted, fit_labels
from training.evaluation.evaluation_table import print_evaluation
from training.evaluation.gate import Scored, choose_gate, gate_table
from training.evaluation.metrics import binary_metrics, disease_metrics, joined, served_rates
from training.evaluation.subgroups import read_traits, subgroups
from training.evaluation.thresholds import disease_thresholds
from training.predict import films_of, predict_logits
from workflows import command_line
from workflows.files.atomic import write_together
from workflows.files.text_files import DataError

LABELS = (FINDING, *FINDINGS)
"""Columns of both stages' outputs side by side, stage 1's first."""
STAGES = ("binary", "disease")


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.evaluate") -> None:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="folder with the two stages' runs")
    parser.add_argument("--sensitivity", type=read_sensitivity, help="stage 1's, on validation (by the gate's policy)")
    score.add_arguments(parser)
    chosen = parser.parse_args(arguments)
    if (chosen.run is None) != score.asked(chosen):
        parser.error("give --run, or --predictions and --data")
    score.main(chosen) if score.asked(chosen) else evaluate(chosen.run, chosen.sensitivity)


def read_sensitivity(text: str) -> float:
    """A command line's value in (0, 1]; raises ArgumentTypeError for any other."""
    value = float(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not in (0, 1]")
    return value


def evaluate(run: Path, sensitivity: float | None = None) -> dict[str, Any]:
    """Scores the run's two checkpoints; returns what ``evaluation.json`` holds.

    Args:
        run: folder with the two stages' runs.
        sensitivity: stage 1's on validation, in (0, 1]; by ``training.evaluation.gate``'s policy unless given.

    Raises:
        DataError: the two stages were trained on different data or splits, or validation is of one patient.
        FileNotFoundError: a checkpoint is missing.
    """
    films, pixels = _films_of(run)
    validation, test = films.rows("validation"), films.rows("test")
    rows = np.concatenate([validation, test])
    logits = both_logits({name: run / name / "checkpoint" for name in STAGES}, pixels, rows)
    split = len(validation)
    maps, fitted = fit_labels(targets_of(films)[validation], logits[:split], [UNCALIBRATED] * len(LABELS))
    scores = calibrated(logits, maps)
    known = Scored(films.diseases[validation], scores[:split, 0], scores[:split, 1:])
    unseen = Scored(films.diseases[test], scores[split:, 0], scores[split:, 1:])

    gates = gate_table(known, unseen, sensitivity)
    served, why = choose_gate(gates, sensitivity)
    gate = served["threshold"]
    thresholds = {FINDING: gate, **disease_thresholds(known.targets, known.diseases)}
    evaluation = {
        "data": films.summary(),
        "sensitivity_wanted": served["sensitivity"],
        "gate": {"sensitivity": served["sensitivity"], "threshold": gate, "why": why, "table": gates},
        "calibration": {label: one.model_dump() for label, one in zip(LABELS, maps, strict=True)},
        "uncalibrated": [label for label, one in zip(LABELS, fitted, strict=True) if not one],
        "calibration_error": _calibration_errors(films, validation, test, logits, maps),
        "validation": {"binary": binary_metrics(films.findings[validation, 0], known.finding, gate)},
        "test": {
            "binary": binary_metrics(films.findings[test, 0], unseen.finding, gate),
            **disease_metrics(unseen.targets, unseen.finding, unseen.diseases, gate),
            "served": served_rates(unseen.targets, unseen.finding, unseen.diseases, thresholds, gate),
        },
        "intervals": _intervals(films, test, unseen, gate),
        "subgroups": _subgroups(films, test, unseen, gate),
        "thresholds": thresholds,
    }
    results = {
        "thresholds.json": json.dumps(thresholds, indent=2),
        "predictions.csv": _predictions(films, test, scores[split:]).to_csv(index=False),
        "evaluation.txt": print_evaluation(evaluation),
        "evaluation.json": json.dumps(evaluation, indent=2, allow_nan=False),
    }
    write_together({run / name: text for name, text in results.items()})
    return evaluation


def targets_of(films: Films) -> NDArray[np.int8]:
    """[N, 15] int8 in the order of ``LABELS``."""
    return np.concatenate([films.findings, films.diseases], axis=1)


def both_logits(folders: dict[str, Path], pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """[len(rows), 15]: both stages on every film, whatever the gate would say.

    Args:
        folders: of each of ``STAGES``, with the files that ``Vit`` reads.
        pixels: [N, S, S] uint8.
        rows: of ``pixels``.
    """
    return np.concatenate([predict_logits(folders[name], pixels, rows, name) for name in STAGES], axis=1)


def _films_of(run: Path) -> tuple[Films, NDArray[np.uint8]]:
    configs = [yaml.safe_load((run / name / "checkpoint" / "training.yaml").read_text()) for name in STAGES]
    binary, disease = configs
    if binary["data"] != disease["data"] or binary["model"]["image_size"] != disease["model"]["image_size"]:
        raise DataError(
            f"{run}: the two stages were trained with different 'data' sections or image sizes; "
            "train both with the same ones, or a film of one's test list may be in the other's training"
        )
    return films_of(binary)


def _calibration_errors(
    films: Films,
    validation: NDArray[np.int64],
    test: NDArray[np.int64],
    logits: NDArray[np.float32],
    maps: list[Platt],
) -> dict[str, Any]:
    """Before and after, per split: validation, which the maps are fitted on, by cross-fitting over its patients."""
    known, unseen = logits[: len(validation)], logits[len(validation) :]
    raw = [UNCALIBRATED] * len(LABELS)
    patients = films.table["patient"].to_numpy(dtype=str)[validation]
    truth = targets_of(films)
    held_out = cross_fitted(truth[validation], known, patients, raw)
    return {
        "validation": calibration_errors(truth[validation], calibrated(known, raw), held_out, LABELS),
        "test": calibration_errors(truth[test], calibrated(unseen, raw), calibrated(unseen, maps), LABELS),
    }


def _intervals(films: Films, test: NDArray[np.int64], unseen: Scored, gate: float) -> dict[str, Any]:
    """AUC and AUPRC on the test list with 95% intervals over its patients: stage 1, and each way to join the two."""
    patients = films.table["patient"].to_numpy(dtype=str)[test]
    ways = joined(unseen.finding, unseen.diseases, gate)
    stage_1 = intervals(films.findings[test], unseen.finding[:, None], patients, [FINDING])
    stage_2 = {way: intervals(unseen.targets, scores, patients, FINDINGS) for way, scores in ways.items()}
    return {name: asdict(of) for name, of in ({"binary": stage_1} | stage_2).items()}


def _subgroups(films: Films, test: NDArray[np.int64], unseen: Scored, gate: float) -> list[dict[str, Any]]:
    shown = films.table.iloc[test]
    traits = read_traits(films.folder, shown["image"].tolist())
    return [asdict(part) for part in subgroups(traits, shown["patient"].to_numpy(dtype=str), unseen, gate)]


def _predictions(films: Films, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> pd.DataFrame:
    table = pd.DataFrame({"Image Index": films.table["image"].to_numpy()[rows]})
    return table.assign(**dict(zip(LABELS, scores.T, strict=True)))


if __name__ == "__main__":
    command_line.run(main)
