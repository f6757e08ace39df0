"""Scores a predictions table of any model: AUC and AUPRC with 95% intervals over patients.

    python -m training.evaluate --predictions predictions.csv --data /data/nih --list /data/nih/test_list.txt

``--against OTHER.csv`` adds the paired difference from a second table on the same films, ``--labels`` scores against
radiologists' labels instead of NIH's, and ``--readers`` sets each reader beside the model. What readers said of served
films is both tables in one, and wants no ``--data``:

    python -m training.evaluate --predictions feedback.csv --labels feedback.csv
"""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from handlers.findings import STAGE_LABELS
from training.data.films import Films, read_table
from training.data.layouts.source import Layout, Uncertain
from training.data.tables import read_film_list
from training.evaluation.adjudicated import Labels, read_labels, read_readers, relabel
from training.evaluation.bootstrap import intervals
from training.evaluation.predictions import Predictions, read_predictions
from training.evaluation.readers import compare_readers, read_thresholds
from training.evaluation.score_table import print_scores
from workflows.files.atomic import write_text
from workflows.files.text_files import DataError

ARGUMENTS = {
    "predictions": "CSV, or a folder of cluster.score's: Image Index and a probability for each finding",
    "data": "folder with a data set's tables (of --predictions: no films needed; with --labels it may be left out)",
    "list": "score the films of this list only, e.g. test_list.txt",
    "against": "a second table, for the paired difference on the same films",
    "labels": "radiologists' labels instead of NIH's: CSV, YES or NO by Image ID",
    "readers": "the same by Reader ID too: each reader beside the model",
    "thresholds": "the model's thresholds.json, for --readers",
    "out": "write the figures here as JSON",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Adds what scores a table instead of a run, and how ``--data`` is read."""
    group = parser.add_argument_group("a predictions table of any model, instead of a run")
    for name, meaning in ARGUMENTS.items():
        group.add_argument(f"--{name}", type=Path, help=meaning)
    group.add_argument("--layout", choices=get_args(Layout), help="of --data, by what lies there unless told")
    meaning = "what a label -1 of --data is taken for (%(default)s)"
    group.add_argument("--uncertain", choices=get_args(Uncertain), default="ignore", help=meaning)


def asked(arguments: Namespace, *but: str) -> bool:
    """Whether any of these was given, ``but`` apart."""
    return any(getattr(arguments, name) is not None for name in ARGUMENTS if name not in but)


def main(arguments: Namespace) -> None:
    """Prints the scores of ``arguments.predictions`` and writes them to ``arguments.out``.

    Raises:
        DataError: a table that cannot be scored, or arguments that do not go together.
        FileNotFoundError: a file that is not there.
        LabelError: the metadata table has an unknown finding.
    """
    if arguments.predictions is None:
        raise DataError(f"--{', --'.join(list(ARGUMENTS)[1:])} are for --predictions, the table to score")
    if arguments.data is None and arguments.labels is None:
        raise DataError("--predictions needs --data, the folder with the data set's tables, or --labels")
    if arguments.readers and not arguments.labels:
        raise DataError("--readers needs --labels, the labels that the readers are measured against")
    if arguments.thresholds and not arguments.readers:
        raise DataError("--thresholds is for --readers alone: no other figure depends on a threshold")
    files = (arguments.list, arguments.against, arguments.labels, arguments.readers, arguments.thresholds)
    data = read_table(arguments.data, arguments.layout, arguments.uncertain) if arguments.data else None
    scores = score(arguments.predictions, data, *files)
    print_scores(scores)
    if arguments.out:
        write_text(arguments.out, json.dumps(scores, indent=2, allow_nan=False))


def score(
    path: Path,
    data: Films | None,
    listed: Path | None = None,
    against: Path | None = None,
    labels: Path | None = None,
    readers: Path | None = None,
    thresholds: Path | None = None,
) -> dict[str, Any]:
    """What ``--out`` holds: plain JSON, None where a figure cannot be had. The arguments are those of the command.

    ``scores`` has ``finding`` (stage 1; None where there is no such column) and ``diseases``, each in the form of
    ``bootstrap.Intervals``; so have ``against`` and ``difference`` (the first table less the second).
    ``readers`` is a list of ``training.evaluation.readers.Comparison``.

    Raises:
        DataError: a table that cannot be scored, or a second one without some of the first one's films.
        FileNotFoundError: a file that is not there.
        LabelError: the metadata table has an unknown finding.
    """
    truth = read_labels(labels) if labels else None
    first = read_predictions(path, data, read_film_list(listed) if listed else None)
    scored = relabel(first, truth) if truth else first
    result: dict[str, Any] = {
        "predictions": path.name,
        "data": data.folder.resolve().name if data else None,
        "list": listed.name if listed else None,
        "films": len(scored.images),
        "patients": len(np.unique(scored.patients)),
        "labels": _describe(truth, len(scored.images)) if truth else None,
        "scores": _by_stage(scored),
    }
    if against:
        other = _second(against, data, scored, truth)
        result["against"] = {"predictions": against.name, **_by_stage(other)}
        result["difference"] = _by_stage(scored, other)
    if readers:
        known = read_thresholds(thresholds, scored.names) if thresholds else None
        compared = compare_readers(scored, read_readers(readers), known)
        result["readers"] = [asdict(comparison) for comparison in compared]
    return result


def _second(path: Path, data: Films | None, first: Predictions, truth: Labels | None) -> Predictions:
    """The second table on the first one's films, in their order."""
    other = read_predictions(path, data, first.images.tolist())
    other = relabel(other, truth) if truth else other
    return other.films(pd.Index(other.images).get_indexer(pd.Index(first.images)))


def _by_stage(scored: Predictions, less: Predictions | None = None) -> dict[str, Any]:
    """Stage 1 apart from the findings, which alone make the mean; of two tables, in the columns that both have."""
    stages: dict[str, Any] = {"finding": None, "diseases": None}
    for stage, labels in zip(stages, STAGE_LABELS.values(), strict=True):
        names = [name for name in labels if name in scored.names and (less is None or name in less.names)]
        if names:
            own, other = scored.only(names), less.only(names).scores if less else None
            stages[stage] = asdict(intervals(own.targets, own.scores, own.patients, names, less=other))
    return stages


def _describe(truth: Labels, scored: int) -> dict[str, Any]:
    return {
        "file": truth.path.name,
        "films": len(truth.targets),
        "films_without_prediction": len(truth.targets) - scored,
        "lacking": list(truth.lacking),
        "ignored": list(truth.ignored),
    }
