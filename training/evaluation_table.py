"""The evaluation as a table that a person can read."""

from typing import Any

from rich.console import Console
from rich.table import Table


def print_evaluation(evaluation: dict[str, Any]) -> str:
    """Prints what ``evaluation.json`` holds, and returns the same as plain text."""
    console = Console(record=True, width=100)
    data, test = evaluation["data"], evaluation["test"]
    films, patients = data["films"], data["patients"]
    console.print(f"{data['folder']}: {films['test']} test films of {patients['test']} patients")
    if data["synthetic"]:
        console.print("[bold]Synthetic films[/]: these figures show that the code works, and nothing else.")
    console.print(_binary_table(evaluation["validation"]["binary"], test["binary"], evaluation["sensitivity_wanted"]))
    console.print(_disease_table(test, evaluation["thresholds"]))
    if test["left_out"]:
        console.print(f"Left out of the mean, one outcome only in the test list: {', '.join(test['left_out'])}")
    total = test["routed"] + test["skipped"]
    console.print(f"The gate routes {test['routed']} of {total} test films to stage 2 and skips {test['skipped']}.")
    return console.export_text()


def _binary_table(validation: dict[str, Any], test: dict[str, Any], sensitivity: float) -> Table:
    table = Table(title=f"Stage 1: any finding (threshold for sensitivity {sensitivity:g} on validation)")
    for column in ("split", "films", "prevalence", "AUC", "threshold", "accuracy", "sensitivity", "specificity"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, metrics in (("validation", validation), ("test", test)):
        rates = ("prevalence", "auc", "threshold", "accuracy", "sensitivity", "specificity")
        table.add_row(name, str(metrics["films"]), *(_number(metrics[rate]) for rate in rates))
    return table


def _disease_table(test: dict[str, Any], thresholds: dict[str, float]) -> Table:
    table = Table(title="Stage 2: AUC on the test list")
    for column in ("finding", "positives", "ungated", "gated", "soft", "threshold"):
        table.add_column(column, justify="left" if column == "finding" else "right")
    for name, areas in test["diseases"].items():
        values = (_number(areas[way]) for way in ("ungated", "gated", "soft"))
        table.add_row(name, str(areas["positives"]), *values, _number(thresholds[name]))
    table.add_section()
    mean = test["mean_auc"]
    table.add_row("mean", "", *(_number(mean[way]) for way in ("ungated", "gated", "soft")), "", style="bold")
    return table


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"
