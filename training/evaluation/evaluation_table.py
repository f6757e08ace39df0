"""The evaluation as tables that a person can read."""

from typing import Any

from rich.console import Console
from rich.table import Table

from handlers.findings import FINDINGS
from training.evaluation.formats import change, interval, number
from training.evaluation.metrics import BINS, MIN_COUNT, class_mean
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
    console.print(
        "Ungated: stage 2 on every film. Gated, which is served: 0.0 where it is skipped. "
        "Soft: p(finding) x p(disease | finding)."
    )
    routed = evaluation["routed"]
    console.print(_calibration_table(evaluation["calibration_error"], evaluation["calibration"]))
    console.print(
        "Stage 2 is calibrated, and its errors are measured, on the films that cross the gate: "
        f"{routed['validation']} of {binary['validation']['films']} of validation, "
        f"{routed['test']} of {binary['test']['films']} of test."
    )
    few = f"fewer than {MIN_COUNT} of those validation films are of one outcome"
    for names, remark in (
        ("uncalibrated", "Not calibrated, for those validation films hold one outcome only"),
        ("without_slope", f"Calibrated by the intercept alone, for {few}, or the slope would turn their order round"),
        ("without_threshold", f"With a threshold of {UNKNOWN:g}, which nothing chose, for {few}"),
    ):
        if evaluation[names]:
            console.print(f"{remark}: {', '.join(evaluation[names])}")
    known, unseen = (binary[split]["prevalence"] for split in binary)
    console.print(
        f"Any finding: {known:.3f} of validation, {unseen:.3f} of test; the test's calibration is off by that."
    )
    return console.export_text()


def print_recalibration(record: dict[str, Any], maps: dict[str, dict[str, float]]) -> None:
    """Prints what a site's films changed: ``recalibrated`` of the new archives, and each label's new map."""
    console = Console(width=WIDTH)
    console.print(
        f"{record['folder']}: {record['films']} films of {record['patients']} patients; stage 2 is calibrated on the "
        f"{record['routed']} films that cross the gate"
    )
    if record["synthetic"]:
        console.print("[bold]Synthetic films[/]: these figures show that the code works, and nothing else.")
    console.print(_calibration_table({"site": record["calibration_error"]}, maps))
    if record["kept"]:
        names = ", ".join(record["kept"])
        console.print(f"As they were, calibration and threshold, under {MIN_COUNT} films of either outcome: {names}")
    if record["without_slope"]:
        console.print(f"The intercept alone is new, no rising slope: {', '.join(record['without_slope'])}")
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
                *(number(row[split][rate]) for rate in ("sensitivity", "specificity", "skipped")),
                number(row[split]["auc_change"], 4, "+"),
                number(row[split]["compute_saved"]),
            )
        ]
        mark, style = (">", "bold") if row["sensitivity"] == gate["sensitivity"] else ("", "")
        table.add_row(mark, f"{row['sensitivity']:g}", number(row["threshold"], 4), *cells, style=style)
    return table


def _calibration_table(errors: dict[str, Any], maps: dict[str, dict[str, float]]) -> Table:
    """A row per label: its map, and ECE and Brier before and after on every split of ``errors``; the 14's mean."""
    table = Table(title=f"Calibration on held-out patients (the 14: routed films alone): ECE ({BINS} bins), Brier")
    table.add_column("label")
    for column in ("slope", "intercept", *(f"{split} {name}" for split in errors for name in ("ECE", "Brier"))):
        table.add_column(column, justify="right")
    for label, one in maps.items():
        cells = [change(errors[split][label][measure]) for split in errors for measure in ("ece", "brier")]
        table.add_row(label, f"{one['slope']:.2f}", f"{one['intercept']:.2f}", *cells)
    table.add_section()
    means = {split: class_mean(errors[split], FINDINGS) for split in errors}
    cells = [change(means[split][measure]) for split in errors for measure in ("ece", "brier")]
    table.add_row("mean of 14", "", "", *cells, style="bold")
    return table


def _binary_table(splits: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="Stage 1: any finding, at the served threshold")
    for column in ("split", "films", "prevalence", "AUC", "threshold", "accuracy", *RATE_NAMES):
        table.add_column(column, justify="left" if column == "split" else "right")
    for name, metrics in splits.items():
        measures = ("prevalence", "auc", "threshold", "accuracy", *RATES)
        table.add_row(name, str(metrics["films"]), *(number(metrics[measure], 4) for measure in measures))
    return table


def _disease_table(test: dict[str, Any], thresholds: dict[str, float]) -> Table:
    table = Table(title="Stage 2 on the test list: AUC, and the rates of what is served (gated, at each threshold)")
    for column in ("finding", "positives", "ungated", "gated", "soft", "threshold", *RATE_NAMES):
        table.add_column(column, justify="left" if column == "finding" else "right")
    for name, areas in test["diseases"].items():
        values = (number(areas[way], 4) for way in ("ungated", "gated", "soft"))
        served = (number(test["served"][name][rate]) for rate in RATES)
        table.add_row(name, str(areas["positives"]), *values, number(thresholds[name], 4), *served)
    table.add_section()
    mean = test["mean_auc"]
    table.add_row("mean", "", *(number(mean[way], 4) for way in ("ungated", "gated", "soft")), style="bold")
    return table


def _interval_table(of: dict[str, Any]) -> Table:
    stage_1, ways = of["binary"], ("ungated", "gated", "soft")
    table = Table(
        title=f"Test list, 95% intervals from {stage_1['resamples']} resamples of {stage_1['patients']} patients"
    )
    for column in ("", *(f"AUC {way}" for way in ways), "AUPRC ungated"):
        table.add_column(column, justify="right" if column else "left")
    for name, label in stage_1["labels"].items():
        table.add_row(f"{name} (stage 1)", interval(label["auc"]), "", "", interval(label["auprc"]))
    table.add_section()
    for name in FINDINGS:
        labels = [of[way]["labels"][name] for way in ways]
        table.add_row(name, *(interval(label["auc"]) for label in labels), interval(labels[0]["auprc"]))
    table.add_section()
    means = (interval(of[way]["mean_auc"]) for way in ways)
    table.add_row("mean", *means, interval(of["ungated"]["mean_auprc"]), style="bold")
    return table
