"""The scores of a predictions table, for a person to read."""

from functools import partial
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table

from handlers.findings import FINDING
from training.evaluation import formats

STAGES = ("finding", "diseases")
STAGE_1, MEAN = "any finding (stage 1)", "mean of the findings"

interval, number = (partial(form, places=4) for form in (formats.interval, formats.number))


def print_scores(scores: dict[str, Any]) -> None:
    """Prints what ``score.score`` returns: a line per finding, then the mean, a second table, the readers."""
    # Wide whatever the terminal: a line per finding must stay one line.
    console = Console(width=160, highlight=False)
    console.print(f"{scores['predictions']}: {scores['films']} films of {scores['patients']} patients")
    if scores["labels"]:
        _print_labels(console, scores["labels"])
    console.print(_score_table(scores["scores"]))
    for remark in _remarks(scores["scores"]):
        console.print(remark)
    if "against" in scores:
        console.print(_difference_table(scores))
    if "readers" in scores:
        console.print(_reader_table(scores["readers"]))
        console.print(
            "*  the labels are partly this reader's own, which favours the reader. ?  not known whether they are."
        )


def _print_labels(console: Console, labels: dict[str, Any]) -> None:
    lacking = labels["films_without_prediction"]
    console.print(f"Against the labels of {labels['file']}: {labels['films']} films, {lacking} without a prediction")
    if labels["lacking"]:
        console.print(f"Left out, no such column there: {', '.join(labels['lacking'])}")
    if labels["ignored"]:
        console.print(f"Ignored, none of our findings: {', '.join(labels['ignored'])}")


def _areas(stages: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Stage 1's, each finding's and their mean, by the name that a row has."""
    labels = [label for stage in filter(stages.get, STAGES) for label in stages[stage]["labels"].items()]
    areas = {_shown(name): of for name, of in labels}
    if of := stages["diseases"]:
        areas[MEAN] = {"positives": "", "auc": of["mean_auc"], "auprc": of["mean_auprc"]}
    return areas


def _add_areas(table: Table, name: str, *cells: str) -> None:
    """A row: a line below stage 1's, and one above the mean's."""
    if name == MEAN:
        table.add_section()
    table.add_row(name, *cells, style="bold" if name == MEAN else None, end_section=name == STAGE_1)


def _score_table(scores: dict[str, Any]) -> Table:
    table = formats.empty_table("95% intervals by bootstrap over patients", "finding", "positives", "AUC", "AUPRC")
    for name, of in _areas(scores).items():
        _add_areas(table, name, str(of["positives"]), interval(of["auc"]), interval(of["auprc"]))
    return table


def _difference_table(scores: dict[str, Any]) -> Table:
    title = f"{scores['predictions']} less {scores['against']['predictions']}, on the same resamples"
    columns = ("finding", "AUC of the second", "difference in AUC", "difference in AUPRC")
    table, second = formats.empty_table(title, *columns), _areas(scores["against"])
    for name, of in _areas(scores["difference"]).items():
        differences = (interval(of[area], sign="+") for area in ("auc", "auprc"))
        _add_areas(table, name, interval(second[name]["auc"]), *differences)
    return table


def _reader_table(readers: list[dict[str, Any]]) -> Table:
    point = "the reader's specificity" if readers[0]["threshold"] is None else "its own threshold"
    rates = ("sensitivity", "specificity", "model's sensitivity", "model's specificity")
    title = f"Each reader, and the model at {point}"
    table = formats.empty_table(title, "finding", "reader", "films", "positives", *rates, words=2)
    for name, rows in groupby(readers, lambda row: _shown(row["name"])):
        for row in rows:
            mark = {True: "*", False: "", None: "?"}[row["voted"]]
            both = (row["by_reader"], row["by_model"])
            cells = (number(of[rate]) for of in both for rate in ("sensitivity", "specificity"))
            table.add_row(name, f"{row['reader']}{mark}", str(row["films"]), str(row["positives"]), *cells)
        table.add_section()
    return table


def _remarks(scores: dict[str, Any]) -> list[str]:
    stages = [scores[stage] for stage in STAGES if scores[stage]]
    labels = {name: label for stage in stages for name, label in stage["labels"].items()}
    one_outcome = [name for name, label in labels.items() if label["auc"]["value"] is None]
    partly = {name: label["left_out"] for name, label in labels.items() if label["left_out"]}
    without = ", ".join(f"{name} {count}" for name, count in partly.items() if name not in one_outcome)
    remarks = []
    blank = [name for name in one_outcome if not labels[name]["positives"] + labels[name]["negatives"]]
    if blank:
        remarks.append(f"Left out, no film is labelled: {', '.join(blank)}")
    if single := [name for name in one_outcome if name not in blank]:
        remarks.append(f"Left out of the mean, one outcome only in these films: {', '.join(single)}")
    if without:
        remarks.append(f"Of {stages[0]['resamples']} resamples, left out for having one outcome only: {without}")
    if not scores["finding"]:
        remarks.append("Stage 1 is not scored: there is no column of any finding on both sides")
    return remarks


def _shown(name: str) -> str:
    return STAGE_1 if name == FINDING else name
