"""One HTML file on a run: what was measured, on which films, and six films to look at.

    python -m training.report --run runs/demo
    python -m training.report --run runs/demo --single runs/demo/single/predictions.csv   # the flat model beside it

Reads what ``training.evaluate`` left in the run (and ``localisation.json``, where it is there) and writes the folder
``report`` into it: ``report.html``, which needs no other file, and its charts as PNGs.
"""

import argparse
import base64
import json
import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray

from handlers.cascade import Cascade, Scores
from handlers.decoding.image import read_film, to_pixels
from handlers.findings import FINDING, FINDINGS, NO_FINDING, STAGE_LABELS
from handlers.networks.explain import relevance
from handlers.networks.vit import Vit, serving_device
from training.archive import LIBRARIES
from training.data.films import Films, configured_films
from training.data.splits import SPLITS
from training.evaluate import SOFT, read_evaluation
from training.evaluation.bootstrap import intervals
from training.evaluation.conformal import ERROR
from training.evaluation.formats import interval, number
from training.evaluation.metrics import MIN_COUNT, class_mean, gated, labelled
from training.evaluation.predictions import Predictions, read_predictions
from training.evaluation.thresholds import UNKNOWN
from training.fit.config import DataConfig
from training.quality.fit import FALSE_ALARMS
from training.report import charts
from workflows.files.atomic import written_folder
from workflows.files.text_files import read_json

WAYS = ("ungated", "gated", "soft")


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training.report") -> None:
    parser = argparse.ArgumentParser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder with the two stages' runs, evaluated")
    parser.add_argument("--single", type=Path, help="CSV: a single model's probabilities on the same test films")
    chosen = parser.parse_args(arguments)
    print(report(chosen.run, chosen.single))


def report(run: Path, single: Path | None = None) -> Path:
    """Writes ``RUN/report`` anew; returns the path of its ``report.html``.

    Args:
        run: what ``training.evaluate`` wrote into.
        single: a predictions table with a row for each of the run's test films.

    Raises:
        DataError: the evaluation is of an older form, or a table that does not fit the test films.
        FileNotFoundError: the run has no evaluation or no checkpoint.
    """
    evaluation = read_evaluation(
        run, "kind", "gate", "routed", "calibration_error", "intervals", "certainty", "quality"
    )
    configs = {stage: (run / stage / "checkpoint" / "training.yaml").read_text() for stage in STAGE_LABELS}
    films = configured_films(DataConfig(**yaml.safe_load(configs["disease"])["data"]))
    films = films.without_labels(films.unlabelled(films.rows("train")))
    tested = read_predictions(run / "predictions.csv", films)
    # The table's digits are those of float32, in which the thresholds were taken from such scores.
    tested.scores[:] = tested.scores.astype(np.float32)
    cascade = Cascade.of_evaluation(evaluation)
    compared = _compare(run, tested, cascade, single, films) if single else None

    localisation = run / "localisation.json"
    command = ["python", "-m", "training.report", "--run", str(run), *(["--single", str(single)] if single else [])]
    versions = {"python": platform.python_version(), **{name: version(name) for name in (*LIBRARIES, "matplotlib")}}
    with written_folder(run / "report") as folder:
        figures = _figures(run, evaluation, cascade, films, tested)
        figures["aucs"] = charts.draw_aucs(_areas(evaluation, compared))
        for name, figure in figures.items():
            charts.save_chart(figure, folder / f"{name}.png", films.synthetic)
        gallery = _gallery(run, films, tested, cascade, folder)
        page = _render(
            evaluation=evaluation,
            compared=compared,
            errors=_mean_errors(evaluation),
            gallery=gallery,
            localisation=read_json(localisation) if localisation.exists() else None,
            images={path.stem: _data_uri(path) for path in sorted(folder.glob("*.png"))},
            configs=configs,
            command=shlex.join(command),
            versions=versions,
        )
        (folder / "report.html").write_text(page, encoding="utf-8")
    return run / "report" / "report.html"


def pick_films(targets: NDArray[np.int8], finding: Scores, diseases: Scores, cascade: Cascade) -> list[tuple[str, int]]:
    """The gallery's rule: (what the film is an example of, its row), of equals the first in the table.

    True positives: the two films with the highest probability of a finding that is there and reported. Missed: of the
    films with findings of which the report names none, the two with the lowest p(finding). False alarm: of the films
    without a finding, the one with the highest probability of a reported one. True negative: of the films without a
    finding and with nothing reported, the one with the lowest p(finding). A kind may have fewer films than that.

    Args:
        targets: [N, 15] int8 in {-1, 0, 1}, any finding before the 14.
        finding: [N] p(finding).
        diseases: [N, 14] stage 2 on every film.
        cascade: its thresholds.
    """
    reported = cascade.present(finding, diseases)
    right = reported & (targets[:, 1:] == 1)
    ill, well = (targets[:, 1:] == 1).any(axis=1), targets[:, 0] == 0
    found, named = right.any(axis=1), reported.any(axis=1)
    highest_right, highest = (np.where(mask, diseases, 0.0).max(axis=1) for mask in (right, reported))
    kinds = (
        ("true positive", found, -highest_right, 2),
        ("missed", ill & ~found, finding, 2),
        ("false alarm", well & named, -highest, 1),
        ("true negative", well & ~named, finding, 1),
    )
    return [
        (kind, int(row))
        for kind, mask, order, number in kinds
        for row in np.flatnonzero(mask)[np.argsort(order[mask], kind="stable")][:number]
    ]


def _compare(run: Path, tested: Predictions, cascade: Cascade, single: Path, data: Films) -> dict[str, Any]:
    """The single model on the cascade's test films, as plain JSON.

    ``name`` is its table's, ``own`` its areas; ``differences``, by way to join the cascade's stages, are the cascade's
    areas less the single model's, paired.
    """
    listed = tested.images.tolist()
    table = read_predictions(single, data, listed).only(FINDINGS)
    other = table.films(pd.Index(table.images).get_indexer(pd.Index(listed)))
    finding, ungated = tested.scores[:, 0], tested.scores[:, 1:]
    soft = pd.read_csv(run / "predictions.csv")[[SOFT + name for name in FINDINGS]].to_numpy()
    ways = {"ungated": ungated, "gated": gated(cascade.routed(finding), ungated), "soft": soft}

    def areas(scores: Scores, less: Scores | None = None) -> dict[str, Any]:
        return asdict(intervals(other.targets, scores, other.patients, FINDINGS, less=less))

    differences = {way: areas(scores, less=other.scores) for way, scores in ways.items()}
    return {"name": single.name, "own": areas(other.scores), "differences": differences}


def _areas(evaluation: dict[str, Any], compared: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """AUC by way and finding, and of the mean."""
    known = {way: evaluation["intervals"][way] for way in WAYS}
    if compared:
        known["single model"] = compared["own"]
    return {
        way: {name: of["labels"][name]["auc"] for name in FINDINGS} | {"mean of 14": of["mean_auc"]}
        for way, of in known.items()
    }


def _mean_errors(evaluation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """ECE and Brier before and after, by split: stage 1's, and the mean of the 14."""
    errors = evaluation["calibration_error"]
    return {split: {"any finding": of[FINDING], "mean of 14": class_mean(of, FINDINGS)} for split, of in errors.items()}


def _figures(
    run: Path, evaluation: dict[str, Any], cascade: Cascade, films: Films, tested: Predictions
) -> dict[str, Figure]:
    test = evaluation["test"]
    served = [test["binary"], *(test["served"][name] for name in FINDINGS)]
    names = ["Any finding (stage 1)", *FINDINGS]
    counts = {split: _label_counts(films, films.rows(split)) for split in SPLITS}
    routed = cascade.routed(tested.scores[:, 0])
    pooled = tested.targets[routed, 1:].ravel(), tested.scores[routed, 1:].ravel()
    panels = {
        "Any finding (stage 1)": labelled(tested.targets[:, 0], tested.scores[:, 0]),
        "The 14 findings, pooled, on routed films": labelled(*pooled),
    }
    panels = {title: panel for title, panel in panels.items() if len(panel[0])}
    figures = {
        "labels": charts.draw_labels(counts, {split: len(films.rows(split)) for split in SPLITS}),
        "roc": charts.draw_roc(names, tested.targets, tested.scores, served),
        "pr": charts.draw_pr(names, tested.targets, tested.scores, served),
    }
    if panels:
        figures["reliability"] = charts.draw_reliability(panels)
    if histories := _read_histories(run):
        figures["curves"] = charts.draw_histories(histories)
    return figures


def _label_counts(films: Films, rows: NDArray[np.int64]) -> dict[str, int]:
    """Films with each finding, the commonest of the whole folder first, after any and none."""
    common = np.argsort(-(films.diseases == 1).sum(axis=0), kind="stable")
    some, none = (int((films.findings[rows] == value).sum()) for value in (1, 0))
    each = (films.diseases[rows] == 1).sum(axis=0).tolist()
    return {"any finding": some, NO_FINDING: none, **{FINDINGS[label]: each[label] for label in common}}


def _read_histories(run: Path) -> dict[str, list[dict[str, Any]]]:
    """Epochs of each stage, and of a joint training, whose epochs lie in the run's own folder."""
    histories = {}
    for name, folder in {"stage 1": run / "binary", "stage 2": run / "disease", "joint training": run}.items():
        path = folder / "epochs.jsonl"
        if path.exists() and (lines := path.read_text().splitlines()):
            histories[name] = [json.loads(line) for line in lines]
    return histories


def _gallery(run: Path, films: Films, tested: Predictions, cascade: Cascade, folder: Path) -> list[dict[str, Any]]:
    """Draws the films of ``pick_films``; returns what the page says of each."""
    targets, finding, diseases = tested.targets[:, 1:], tested.scores[:, 0], tested.scores[:, 1:]
    reported, routed = cascade.present(finding, diseases), cascade.routed(finding)
    paths = dict(zip(films.table["image"], films.table["path"], strict=True))
    vit = Vit(run / "disease" / "checkpoint", serving_device())
    entries = []
    for film_number, (kind, row) in enumerate(pick_films(tested.targets, finding, diseases, cascade), 1):
        named = np.flatnonzero(reported[row])
        among = named if len(named) else np.arange(len(FINDINGS))
        top = int(among[np.argmax(diseases[row, among])])
        film = read_film(paths[tested.images[row]].read_bytes())
        heatmap = relevance(vit, to_pixels(film, vit.image_size)[None], top)[0]
        picture = folder / f"gallery-{film_number}.png"
        charts.save_chart(charts.draw_film(film, heatmap, f"heatmap of {FINDINGS[top]}"), picture, films.synthetic)
        entries.append(
            {
                "picture": picture.stem,
                "kind": kind,
                "image": str(tested.images[row]),
                "truth": [name for name, there in zip(FINDINGS, targets[row], strict=True) if there == 1]
                or ([NO_FINDING] if tested.targets[row, 0] == 0 else ["none of the labelled findings"]),
                "finding": float(finding[row]),
                "routed": bool(routed[row]),
                "present": [
                    (FINDINGS[one], float(diseases[row, one])) for one in sorted(named, key=lambda i: -diseases[row, i])
                ],
                "top": FINDINGS[top],
                "top_probability": float(diseases[row, top]),
                "empty": not heatmap.any(),
            }
        )
    return entries


def _render(**content: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(area=interval, share=number)
    return environment.get_template("report.html.j2").render(
        **content,
        alarms=FALSE_ALARMS,
        error=ERROR,
        finding=FINDING,
        findings=FINDINGS,
        ways=WAYS,
        unknown=UNKNOWN,
        min_count=MIN_COUNT,
    )


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
