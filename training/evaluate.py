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

from handlers.cascade import Cascade, Kind
from handlers.findings import FINDING, FINDINGS, STAGE_LABELS
from handlers.networks.network import encoder_sha256
from handlers.networks.vit import Vit, serving_device
from training.data.films import Films
from training.evaluation import score
from training.evaluation.bootstrap import intervals
from training.evaluation.evaluation_table import print_evaluation
from training.evaluation.fit_cascade import Labelled, fit_cascade, served_errors
from training.evaluation.metrics import Scored, binary_metrics, disease_metrics
from training.evaluation.subgroups import read_traits, subgroups
from training.predict import films_of, kind_of, predict_features, predict_logits
from workflows import command_line
from workflows.files.atomic import write_together
from workflows.files.text_files import DataError

SOFT = "soft_"
"""Before a finding's name in ``predictions.csv``: p(finding) x p(disease | finding)."""


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
    films, pixels, kind = _films_of(run)
    rows = {split: films.rows(split) for split in ("validation", "test")}
    logits = both_logits(
        {stage: run / stage / "checkpoint" for stage in STAGE_LABELS}, pixels, np.concatenate(list(rows.values()))
    )
    split = len(rows["validation"])
    validation, test = (
        labelled(films, rows["validation"], logits[:split]),
        labelled(films, rows["test"], logits[split:]),
    )
    first = Cascade(kind=kind)
    fitted = fit_cascade(validation, first, sensitivity, test)
    assert fitted.gate  # there was none to keep
    known, unseen, cascade = fitted.score(validation), fitted.score(test), fitted.cascade
    gate = cascade.thresholds[FINDING]
    evaluation = {
        "data": films.summary(),
        **cascade.model_dump(),
        "sensitivity_wanted": fitted.gate["sensitivity"],
        "gate": fitted.gate,
        "routed": {"validation": int(known.routed.sum()), "test": int(unseen.routed.sum())},
        "uncalibrated": fitted.labels("nothing"),
        "without_slope": fitted.labels("intercept"),
        "without_threshold": fitted.without_threshold,
        "calibration_error": {
            "validation": served_errors(validation, first, cascade, fitted_here=True),
            "test": served_errors(test, first, cascade, fitted_here=False),
        },
        "validation": {"binary": binary_metrics(validation.targets[:, 0], known.finding, gate)},
        "test": {"binary": binary_metrics(test.targets[:, 0], unseen.finding, gate), **disease_metrics(unseen)},
        "intervals": _intervals(test, unseen),
        "subgroups": _subgroups(films, rows["test"], test, unseen),
    }
    results = {
        "thresholds.json": json.dumps(cascade.thresholds, indent=2),
        "predictions.csv": _predictions(films, rows["test"], unseen).to_csv(index=False),
        "evaluation.txt": print_evaluation(evaluation),
        "evaluation.json": json.dumps(evaluation, indent=2, allow_nan=False),
    }
    write_together({run / name: text for name, text in results.items()})
    return evaluation


def labelled(films: Films, rows: NDArray[np.int64], logits: NDArray[np.float32]) -> Labelled:
    """Rows of ``films`` with their logits, [len(rows), 15]."""
    targets = np.concatenate([films.findings, films.diseases], axis=1)[rows]
    return Labelled(targets, logits, films.table["patient"].to_numpy(dtype=str)[rows])


def both_logits(folders: dict[str, Path], pixels: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """[len(rows), 15]: both stages on every film, whatever the gate would say; two heads of one encoder in one pass.

    Args:
        folders: of both stages, with the files that ``Vit`` reads.
        pixels: [N, S, S] uint8.
        rows: of ``pixels``.
    """
    if len({encoder_sha256(folder) for folder in folders.values()}) > 1:
        return np.concatenate([predict_logits(folders[stage], pixels, rows, stage) for stage in STAGE_LABELS], axis=1)
    stages = [Vit(folders[stage], serving_device()) for stage in STAGE_LABELS]
    features = predict_features(stages[0], pixels, rows, "both stages")
    return np.concatenate([stage.logits_of(features) for stage in stages], axis=1)


def _films_of(run: Path) -> tuple[Films, NDArray[np.uint8], Kind]:
    configs = [yaml.safe_load((run / stage / "checkpoint" / "training.yaml").read_text()) for stage in STAGE_LABELS]
    binary, disease = configs
    if binary["data"] != disease["data"] or binary["model"]["image_size"] != disease["model"]["image_size"]:
        raise DataError(
            f"{run}: the two stages were trained with different 'data' sections or image sizes; "
            "train both with the same ones, or a film of one's test list may be in the other's training"
        )
    return *films_of(binary), kind_of(disease)


def _intervals(test: Labelled, unseen: Scored) -> dict[str, Any]:
    """AUC and AUPRC on the test list with 95% intervals over its patients: stage 1, and each way to join the two."""
    stage_1 = intervals(test.targets[:, :1], unseen.finding[:, None], test.patients, [FINDING])
    stage_2 = {way: intervals(unseen.targets, scores, test.patients, FINDINGS) for way, scores in unseen.ways.items()}
    return {name: asdict(of) for name, of in ({"binary": stage_1} | stage_2).items()}


def _subgroups(films: Films, rows: NDArray[np.int64], test: Labelled, unseen: Scored) -> list[dict[str, Any]]:
    traits = read_traits(films.folder, films.table["image"].iloc[rows].tolist())
    return [asdict(part) for part in subgroups(traits, test.patients, unseen)]


def _predictions(films: Films, rows: NDArray[np.int64], scored: Scored) -> pd.DataFrame:
    """A row per film: p(finding), the 14 ungated, and the 14 soft."""
    table = pd.DataFrame({"Image Index": films.table["image"].to_numpy()[rows], FINDING: scored.finding})
    for before, way in (("", "ungated"), (SOFT, "soft")):
        columns = zip(FINDINGS, scored.ways[way].T, strict=True)
        table = table.assign(**{before + name: column for name, column in columns})
    return table


if __name__ == "__main__":
    command_line.run(main)
