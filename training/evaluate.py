"""Calibrates and chooses the operating points on validation, then scores the pair of models on the test list.

    python -m training.evaluate --run runs/demo
    python -m training.evaluate --run runs/demo --data DIR            # as it stands, on other films
    python -m training.evaluate --predictions FILE.csv --data DIR     # any model's table: training/evaluation/score.py

Reads ``binary/checkpoint`` and ``disease/checkpoint`` of the run, writes beside them ``thresholds.json``,
``evaluation.json``, ``evaluation.txt`` (the printed table) and ``predictions.csv`` (the test list's). With ``--data``
the same go into ``RUN/external/NAME/``, the run's own stay, and nothing is chosen or fitted.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray

from handlers.calibration import Platt
from handlers.cascade import Cascade, Kind
from handlers.findings import FINDING, FINDINGS, STAGE_LABELS
from handlers.networks.network import encoder_sha256
from handlers.networks.vit import Vit, serving_device
from handlers.quality import QUALITY_FILE
from training.data.films import Films, locate, read_table
from training.data.layouts.source import Layout, Uncertain
from training.data.pixels import load_pixels
from training.data.splits import given_splits
from training.evaluation import score
from training.evaluation.bfloat16_effect import bfloat16_effect
from training.evaluation.bootstrap import intervals
from training.evaluation.conformal import certainty_table
from training.evaluation.evaluation_table import print_evaluation, print_external
from training.evaluation.fit_cascade import Fitted, Labelled, fit_cascade, served_errors
from training.evaluation.metrics import Scored, binary_metrics, disease_metrics
from training.evaluation.reference import reference_of
from training.evaluation.subgroups import group_films, subgroups
from training.fit.config import DataConfig
from training.fit.run_folder import hash_of
from training.predict import films_of, kind_of, predict_features, predict_logits
from training.quality.measure import quality_of_run
from workflows import command_line
from workflows.files.atomic import write_together
from workflows.files.text_files import DataError, read_json

SOFT = "soft_"
"""Before a finding's name in ``predictions.csv``: p(finding) x p(disease | finding)."""
GIVEN = "given_finding"
"""In ``evaluation.json``: the calibrations that make p(disease | finding) of the 14."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.evaluate") -> None:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="folder with the two stages' runs")
    parser.add_argument("--sensitivity", type=read_sensitivity, help="stage 1's, on validation (by the gate's policy)")
    parser.add_argument("--skip-unreadable", action="store_true", help="of --run --data: go on without such films")
    score.add_arguments(parser)
    chosen = parser.parse_args(arguments)
    if chosen.run is None and not score.asked(chosen):
        parser.error("give --run, --run and --data, or --predictions and --data")
    if chosen.run is None:
        score.main(chosen)
    elif score.asked(chosen, "data"):
        parser.error("--run scores a run, --predictions any model's table: give one of them")
    elif chosen.data is None:
        evaluate(chosen.run, chosen.sensitivity)
    elif chosen.sensitivity is not None:
        parser.error("--sensitivity chooses a gate, and with --data the run's own is kept: leave one of them out")
    else:
        print(evaluate_elsewhere(chosen.run, chosen.data, chosen.layout, chosen.uncertain, chosen.skip_unreadable))


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
    films = films.without_labels(films.unlabelled(films.rows("train")))  # of what nothing has taught
    rows = {split: films.rows(split) for split in ("validation", "test")}
    logits = both_logits(_checkpoints(run), pixels, np.concatenate(list(rows.values())))
    split = len(rows["validation"])
    validation, test = (
        labelled(films, rows["validation"], logits[:split]),
        labelled(films, rows["test"], logits[split:]),
    )
    first = Cascade(kind=kind)
    fitted = fit_cascade(validation, first, sensitivity, test)
    assert fitted.gate  # there was none to keep
    known, unseen, cascade = fitted.score(validation), fitted.score(test), fitted.cascade
    paths: list[Path] = films.table["path"].iloc[rows["validation"]].tolist()
    gate, blank = cascade.thresholds[FINDING], films.unlabelled(rows["validation"])
    rounded = both_logits(_checkpoints(run), pixels, rows["validation"], torch.bfloat16)
    checks, quality, likeness = quality_of_run(_checkpoints(run)["binary"], films, pixels)
    reference = reference_of(paths, pixels[rows["validation"]], known, validation.patients, likeness)
    evaluation = {
        "data": films.summary(),
        **cascade.model_dump(),
        GIVEN: [one.model_dump() for one in fitted.given_finding],
        "bfloat16": bfloat16_effect(validation, rounded, cascade).model_dump(),
        "sensitivity_wanted": fitted.gate["sensitivity"],
        "gate": fitted.gate,
        "routed": {"validation": int(known.routed.sum()), "test": int(unseen.routed.sum())},
        "uncalibrated": [name for name in fitted.labels("nothing") if name not in blank],
        "without_slope": fitted.labels("intercept"),
        "without_threshold": [name for name in fitted.without_threshold if name not in blank],
        "calibration_error": {
            "validation": served_errors(validation, first, cascade, fitted_here=True),
            "test": served_errors(test, first, cascade, fitted_here=False),
        },
        "validation": {"binary": binary_metrics(known.any_finding, known.finding, gate)},
        "reference": reference.histograms,
        "design_effects": reference.design_effects,
        "certainty": certainty_table(known, validation.patients, unseen, test.patients),
        "quality": quality,
        **_measured(films, rows["test"], test, unseen, gate),
    }
    results: dict[str, str | bytes] = {
        "thresholds.json": json.dumps(cascade.thresholds, indent=2),
        "predictions.csv": _predictions(films, rows["test"], unseen).to_csv(index=False),
        "evaluation.txt": print_evaluation(evaluation),
        **({QUALITY_FILE: checks} if checks else {}),
        "evaluation.json": json.dumps(evaluation, indent=2, allow_nan=False),
    }
    write_together({run / name: content for name, content in results.items()})
    return evaluation


def evaluate_elsewhere(
    run: Path,
    data: Path,
    layout: Layout | None = None,
    uncertain: Uncertain = "ignore",
    skip_unreadable: bool = False,
) -> Path:
    """External validation: scores an evaluated run, just as it stands, on the films of another data set.

    Calibrations, gate and thresholds are those of the run's ``evaluation.json``. The films are the data set's test
    split, where its tables or lists give one, else all of them. A finding that they are not labelled for, or that the
    run was not trained on, is in no figure, and named.

    Returns:
        ``RUN/external/NAME``, with ``evaluation.json``, ``evaluation.txt`` and ``predictions.csv``; NAME is the data
        folder's.

    Raises:
        DataError: it is the run's own data folder, the films cannot be read, the evaluation is of an older form, or the
            folder holds the scores of other films.
        FileNotFoundError: a checkpoint is missing, or the run has not been evaluated.
    """
    configs, kind = _configs_of(run)
    config = DataConfig(**configs["data"])
    if data.resolve() == Path(config.folder).resolve():
        raise DataError(f"{data} is the run's own data: python -m training.evaluate --run {run} scores its test split")
    own = read_evaluation(run, GIVEN)
    films = read_table(data, layout, uncertain)
    tested = given_splits(data, films.table).eq("test").to_numpy()
    films = films.keep(tested) if tested.any() else films
    films.table["split"] = "test"
    films = locate(films, skip_unreadable).without_labels(own["data"].get("unlabelled", {}).get("train", []))
    films, pixels = load_pixels(films, configs["model"]["image_size"], Path(config.cache), skip_unreadable)
    out, rows = run / "external" / data.resolve().name, films.rows("test")
    origin = hash_of(films)
    if (out / "evaluation.json").exists() and read_json(out / "evaluation.json")["origin"] != origin:
        raise DataError(f"{out} holds the scores of other films, or of other labels: move it away first")
    cascade = Cascade.of_evaluation(own)
    given = [Platt.model_validate(one) for one in own[GIVEN]]
    test = labelled(films, rows, both_logits(_checkpoints(run), pixels, rows))
    unseen = Fitted(cascade, given, None, {}, []).score(test)
    evaluation = {
        "data": films.summary(),
        "remarks": list(films.remarks),
        "origin": origin,
        "trained_on": own["data"],
        **cascade.model_dump(),
        "routed": {"test": int(unseen.routed.sum())},
        "calibration_error": {"test": served_errors(test, Cascade(kind=kind), cascade, fitted_here=False)},
        **_measured(films, rows, test, unseen, cascade.thresholds[FINDING]),
    }
    results = {
        "predictions.csv": _predictions(films, rows, unseen).to_csv(index=False),
        "evaluation.txt": print_external(evaluation),
        "evaluation.json": json.dumps(evaluation, indent=2, allow_nan=False),
    }
    write_together({out / name: text for name, text in results.items()})
    return out


def read_evaluation(run: Path, *parts: str) -> dict[str, Any]:
    """A run's ``evaluation.json``.

    Raises:
        DataError: it is of an older form, without some of ``parts``.
        FileNotFoundError: the run has not been evaluated.
    """
    path = run / "evaluation.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: python -m training.evaluate --run {run}")
    evaluation = read_json(path)
    if lacking := [part for part in parts if part not in evaluation]:
        raise DataError(
            f"{path} is of an older form, without {', '.join(lacking)}: python -m training.evaluate --run {run}"
        )
    return evaluation


def labelled(films: Films, rows: NDArray[np.int64], logits: NDArray[np.float32]) -> Labelled:
    """Rows of ``films`` with their logits, [len(rows), 15]."""
    targets = np.concatenate([films.findings, films.diseases], axis=1)[rows]
    return Labelled(targets, logits, films.table["patient"].to_numpy(dtype=str)[rows])


def both_logits(
    folders: dict[str, Path], pixels: NDArray[np.uint8], rows: NDArray[np.int64], dtype: torch.dtype = torch.float32
) -> NDArray[np.float32]:
    """[len(rows), 15]: both stages on every film, whatever the gate would say; two heads of one encoder in one pass.

    Args:
        folders: of both stages, with the files that ``Vit`` reads.
        pixels: [N, S, S] uint8.
        rows: of ``pixels``.
        dtype: of the encoders' matrix products.
    """
    if len({encoder_sha256(folder) for folder in folders.values()}) > 1:
        each = [predict_logits(folders[stage], pixels, rows, stage, dtype=dtype) for stage in STAGE_LABELS]
        return np.concatenate(each, axis=1)
    stages = [Vit(folders[stage], serving_device(), dtype) for stage in STAGE_LABELS]
    features = predict_features(stages[0], pixels, rows, "both stages")
    return np.concatenate([stage.logits_of(features) for stage in stages], axis=1)


def _checkpoints(run: Path) -> dict[str, Path]:
    return {stage: run / stage / "checkpoint" for stage in STAGE_LABELS}


def _films_of(run: Path) -> tuple[Films, NDArray[np.uint8], Kind]:
    config, kind = _configs_of(run)
    return *films_of(config), kind


def _configs_of(run: Path) -> tuple[dict[str, Any], Kind]:
    """The resolved configuration whose films and image size both stages share, and what stage 2 says."""
    configs = [yaml.safe_load((folder / "training.yaml").read_text()) for folder in _checkpoints(run).values()]
    binary, disease = configs
    same = DataConfig(**binary["data"]) == DataConfig(**disease["data"])
    if not same or binary["model"]["image_size"] != disease["model"]["image_size"]:
        raise DataError(
            f"{run}: the two stages were trained with different 'data' sections or image sizes; "
            "train both with the same ones, or a film of one's test list may be in the other's training"
        )
    return binary, kind_of(disease)


def _measured(
    films: Films, rows: NDArray[np.int64], test: Labelled, unseen: Scored, gate: float
) -> dict[str, dict[str, Any] | list[dict[str, Any]]]:
    """What is said of films that nothing was chosen by: both stages' figures, intervals, subgroups."""
    groups = subgroups(group_films(films.table.iloc[rows]), test.patients, unseen)
    return {
        "test": {"binary": binary_metrics(unseen.any_finding, unseen.finding, gate), **disease_metrics(unseen)},
        "intervals": _intervals(test, unseen),
        "subgroups": [asdict(part) for part in groups],
    }


def _intervals(test: Labelled, unseen: Scored) -> dict[str, Any]:
    """AUC and AUPRC on the test list with 95% intervals over its patients: stage 1, and each way to join the two."""
    stage_1 = intervals(test.targets[:, :1], unseen.finding[:, None], test.patients, [FINDING])
    stage_2 = {way: intervals(unseen.targets, scores, test.patients, FINDINGS) for way, scores in unseen.ways.items()}
    return {name: asdict(of) for name, of in ({"binary": stage_1} | stage_2).items()}


def _predictions(films: Films, rows: NDArray[np.int64], scored: Scored) -> pd.DataFrame:
    """A row per film: p(finding), the 14 ungated, and the 14 soft."""
    table = pd.DataFrame({"Image Index": films.table["image"].to_numpy()[rows], FINDING: scored.finding})
    for before, way in (("", "ungated"), (SOFT, "soft")):
        columns = zip(FINDINGS, scored.ways[way].T, strict=True)
        table = table.assign(**{before + name: column for name, column in columns})
    return table


if __name__ == "__main__":
    command_line.run(main)
