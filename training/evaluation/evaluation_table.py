"""The evaluation as tables that a person can read."""

from typing import Any

from rich.console import Console
from rich.table import Table

from handlers.findings import FINDINGS
from training.evaluation.calibration import class_mean
from training.evaluation.metrics import BINS
from training.evaluation.thresholds import UNKNOWN

WIDTH = 116
RATES = ("sensitivity", "specificity", "ppv", "npv")
RATE_NAMES = ("sens.", "spec.", "PPV", "NPV")


def print_evaluation(evaluation: dict[str, Any]) -> str:
    """Prints what ``evaluation.json`` holds, and returns the same as plain text."""
    console = Console(record=True, width=WIDTH)
    data, test = evaluation["data"], evaluation["test"]
    films, patients = data["films"], data["patients"]
    console.print(f"{data['folder']}: {films['test']} test films of {patients['test']} patients")
    if data["synthetic"]:
        console.print("[bold]Synthetic films[/]: these figures show that the code works, and nothing else.")
    binary = {split: evaluation[split]["binary"] for split in ("validation", "test")}
    console.print(_binary_table(binary))
    _print_gate(console, evaluation["gate"])
    console.print(_disease_table(test, evaluation["thresholds"]))
    console.print(_interval_table(evaluation["intervals"]))
    if test["left_out"]:
        console.print(f"Left out of the mean, one outcome only in the test list: {', '.join(test['left_out'])}")
    total = test["routed"] + test["skipped"]
    console.print(f"The gate routes {test['routed']} of {total} test films to stage 2 and skips {test['skipped']}.")
    console.print(_calibration_table(evaluation["calibration_error"], evaluation["calibration"]))
    if evaluation["uncalibrated"]:
        names = ", ".join(evaluation["uncalibrated"])
        console.print(
            f"Not calibrated, one outcome only in validation (where no film shows it, its threshold is {UNKNOWN:g}, "
            f"which nothing chose): {names}"
        )
    known, unseen = (binary[split]["prevalence"] for split in binary)
    console.print(
        f"Any finding: {known:.3f} of validation, {unseen:.3f} of test; the test's calibration is off by that."
    )
    return console.export_text()


def print_recalibration(record: dict[str, Any], maps: dict[str, dict[str, float]]) -> None:
    """Prints what a site's films changed: ``recalibrated`` of the new archives, and each label's new map."""
    console = Console(width=WIDTH)
    console.print(f"{record['folder']}: {record['films']} films of {record['patients']} patients")
    if record["synthetic"]:
        console.print("[bold]Synthetic films[/]: these figures show that the code works, and nothing else.")
    console.print(_calibration_table({"site": record["calibration_error"]}, maps))
    if record["kept"]:
        names = ", ".join(record["kept"])
        console.print(f"As they were, one outcome only: {names}")
    if record["gate"]:
        _print_gate(console, record["gate"])


def _print_gate(console: Console, gate: dict[str, Any]) -> None:
    where = "validation" if "test" in gate["table"][0] else "the site's films"
    console.print(_gate_table(gate, where))
    console.print(f"Served, chosen on {where} alone: the gate for sensitivity {gate['sensitivity']:g}, {gate['why']}.")


def _gate_table(gate: dict[str, Any], where: str) -> Table:
    """A row per sensitivity, for each split that was measured; ``>`` marks the one that is served."""
    splits = [split for split in ("validation", "test") if split in gate["table"][0]]
    measured = f"{where}, then test" if "test" in splits else where
    table = Table(title=f"Gate on {measured} (AUC: mean gated minus ungated; saved: share of all ViT passes)")
    for column in ("", "wanted", "threshold"):
        table.add_column(column, justify="right")
    for split in splits:
        for column in ("sens.", "spec.", "skipped", "AUC", "saved"):
            table.add_column(column, justify="right", header_style="bold" if split == "validation" else "italic")
    for row in gate["table"]:
        cells = [
            cell
            for split in splits
            for cell in (
                *(_number(row[split][rate], 3) for rate in ("sensitivity", "specificity", "skipped")),
                _signed(row[split]["auc_change"]),
                _number(row[split]["compute_saved"], 3),
            )
        ]
        mark, style = (">", "bold") if row["sensitivity"] == gate["sensitivity"] else ("", "")
        table.add_row(mark, f"{row['sensitivity']:g}", _number(row["threshold"]), *cells, style=style)
    return table


def _calibration_table(errors: dict[str, Any], maps: dict[str, dict[str, float]]) -> Table:
    """A row per label: its map, and ECE and Brier before and after on every split of ``errors``; the 14's mean."""
    table = Table(title=f"Calibration on held-out patients: ECE ({BINS} bins), Brier")
    table.add_column("label")
    for column in ("slope", "intercept", *(f"{split} {name}" for split in errors for name in ("ECE", "Brier"))):
        table.add_column(column, justify="right")
    for label, one in maps.items():
        cells = [_change(errors[split][label][measure]) for split in errors for measure in ("ece", "brier")]
        table.add_row(label, f"{one['slope']:.2f}", f"{one['intercept']:.2f}", *cells)
    table.add_section()
    means = {split: class_mean(errors[split], FINDINGS) for split in errors}
    cells = [_change(means[split][measure]) for split in errors for measure in ("ece", "brier")]
    table.add_row("mean of 14", "", "", *cells, style="bold")
    return table


def _binary_table(splits: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="Stage 1: any finding, at the served threshold")
    for column in ("split", "films", "prevalence", "AUC", "threshold", "accuracy", *RATE_NAMES):
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, metrics in splits.items():
        measures = ("prevalence", "auc", "threshold", "accuracy", *RATES)
        table.add_row(name, str(metrics["films"]), *(_number(metrics[measure]) for measure in measures))
    return table


def _disease_table(test: dict[str, Any], thresholds: dict[str, float]) -> Table:
    table = Table(title="Stage 2 on the test list: AUC, and the rates of what is served (gated, at each threshold)")
    for column in ("finding", "positives", "ungated", "gated", "soft", "threshold", *RATE_NAMES):
        table.add_column(column, justify="left" if column == "finding" else "right")
    for name, areas in test["diseases"].items():
        values = (_number(areas[way]) for way in ("ungated", "gated", "soft"))
        served = (_number(test["served"][name][rate], 3) for rate in RATES)
        table.add_row(name, str(areas["positives"]), *values, _number(thresholds[name]), *served)
    table.add_section()
    mean = test["mean_auc"]
    table.add_row("mean", "", *(_number(mean[way]) for way in ("ungated", "gated", "soft")), style="bold")
    return table


def _interval_table(of: dict[str, Any]) -> Table:
    stage_1, ways = of["binary"], ("ungated", "gated", "soft")
    table = Table(
        title=f"Test list, 95% intervals from {stage_1['resamples']} resamples of {stage_1['patients']} patients"
    )
    for column in ("", *(f"AUC {way}" for way in ways), "AUPRC ungated"):
        table.add_column(column, justify="right" if column else "left")
    for name, label in stage_1["labels"].items():
        table.add_row(f"{name} (stage 1)", _interval(label["auc"]), "", "", _interval(label["auprc"]))
    table.add_section()
    for name in FINDINGS:
        labels = [of[way]["labels"][name] for way in ways]
        table.add_row(name, *(_interval(label["auc"]) for label in labels), _interval(labels[0]["auprc"]))
    table.add_section()
    means = (_interval(of[way]["mean_auc"]) for way in ways)
    table.add_row("mean", *means, _interval(of["ungated"]["mean_auprc"]), style="bold")
    return table


def _interval(of: dict[str, float | None]) -> str:
    return "n/a" if of["value"] is None else f"{of['value']:.3f} ({_number(of['low'], 3)}-{_number(of['high'], 3)})"


def _number(value: float | None, places: int = 4) -> str:
    return "n/a" if value is None else f"{value:.{places}f}"


def _signed(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.4f}"


def _change(measure: dict[str, float]) -> str:
    return f"{measure['before']:.3f} > {measure['after']:.3f}"
