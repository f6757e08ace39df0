"""The scores of a predictions table, for a person to read."""

from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from handlers.findings import FINDING
from training.evaluation import formats

STAGES = ("finding", "diseases")
STAGE_1 = "any finding (stage 1)"

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


def _score_table(scores: dict[str, Any]) -> Table:
    table = _table("95% intervals by bootstrap over patients", "finding", "positives", "AUC", "AUPRC")
    for stage in filter(scores.get, STAGES):
        for name, label in scores[stage]["labels"].items():
            table.add_row(_shown(name), str(label["positives"]), interval(label["auc"]), interval(label["auprc"]))
        table.add_section()
    if scores["diseases"]:
        means = (interval(scores["diseases"][f"mean_{area}"]) for area in ("auc", "auprc"))
        table.add_row("mean of the findings", "", *means, style="bold")
    return table


def _difference_table(scores: dict[str, Any]) -> Table:
    first, second = scores["predictions"], scores["against"]["predictions"]
    title = f"{first} less {second}, on the same resamples"
    table = _table(title, "finding", "AUC of the second", "difference in AUC", "difference in AUPRC")
    difference = scores["difference"]
    for stage in filter(difference.get, STAGES):
        for name, label in difference[stage]["labels"].items():
            other = scores["against"][stage]["labels"][name]["auc"]
            table.add_row(
                _shown(name), interval(other), interval(label["auc"], sign="+"), interval(label["auprc"], sign="+")
            )
        table.add_section()
    if difference["diseases"]:
        other = scores["against"]["diseases"]["mean_auc"]
        means = (interval(difference["diseases"][f"mean_{area}"], sign="+") for area in ("auc", "auprc"))
        table.add_row("mean of the findings", interval(other), *means, style="bold")
    return table


def _reader_table(readers: list[dict[str, Any]]) -> Table:
    point = "the reader's specificity" if readers[0]["threshold"] is None else "its own threshold"
    rates = ("sensitivity", "specificity", "model's sensitivity", "model's specificity")
    table = _table(f"Each reader, and the model at {point}", "finding", "reader", "films", "positives", *rates)
    previous = readers[0]["name"]
    for row in readers:
        if row["name"] != previous:
            table.add_section()
        previous = row["name"]
        mark = {True: "*", False: "", None: "?"}[row["voted"]]
        counts = (str(row[count]) for count in ("films", "positives"))
        cells = (number(row[who][rate]) for who in ("by_reader", "by_model") for rate in ("sensitivity", "specificity"))
        table.add_row(_shown(row["name"]), f"{row['reader']}{mark}", *counts, *cells)
    return table


def _remarks(scores: dict[str, Any]) -> list[str]:
    stages = [scores[stage] for stage in STAGES if scores[stage]]
    labels = {name: label for stage in stages for name, label in stage["labels"].items()}
    one_outcome = [name for name, label in labels.items() if label["auc"]["value"] is None]
    partly = {name: label["left_out"] for name, label in labels.items() if label["left_out"]}
    without = ", ".join(f"{name} {count}" for name, count in partly.items() if name not in one_outcome)
    remarks = []
    if one_outcome:
        remarks.append(f"Left out of the mean, one outcome only in these films: {', '.join(one_outcome)}")
    if without:
        remarks.append(f"Of {stages[0]['resamples']} resamples, left out for having one outcome only: {without}")
    if not scores["finding"]:
        remarks.append("Stage 1 is not scored: there is no column of any finding on both sides")
    return remarks


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column in ("finding", "reader") else "right", no_wrap=True)
    return table


def _shown(name: str) -> str:
    return STAGE_1 if name == FINDING else name
