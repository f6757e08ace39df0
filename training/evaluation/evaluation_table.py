"""The evaluation as tables that a person can read."""

from typing import Any

from rich.console import Console
from rich.table import Table

from handlers.bfloat16_rule import Bfloat16Effect
from handlers.findings import FINDINGS
from training.evaluation.conformal import ERROR
from training.evaluation.formats import change, empty_table, interval, number
from training.evaluation.metrics import BINS, MIN_COUNT, class_mean
from training.evaluation.thresholds import UNKNOWN

WIDTH = 116
RATES = ("sensitivity", "specificity", "ppv", "npv")
RATE_NAMES = ("sens.", "spec.", "PPV", "NPV")
WAYS = ("ungated", "gated", "soft")
SYNTHETIC = "[bold]Synthetic films[/]: these figures show that the code works, and nothing else."


def print_evaluation(evaluation: dict[str, Any]) -> str:
    """Prints what ``evaluation.json`` holds, and returns the same as plain text."""
    console = Console(record=True, width=WIDTH)
    data, test, routed = evaluation["data"], evaluation["test"], evaluation["routed"]
    known, unseen = evaluation["validation"]["binary"], test["binary"]
    console.print(f"{data['folder']}: {data['films']['test']} test films of {data['patients']['test']} patients")
    if data["synthetic"]:
        console.print(SYNTHETIC)
    console.print(_binary_table({"validation": known, "test": unseen}))
    _print_gate(console, evaluation["gate"])
    console.print(_disease_table(test, evaluation["thresholds"]))
    console.print(_interval_table(evaluation["intervals"]))
    _print_left_out(console, data, test)
    _print_ways(console, test)
    console.print(_calibration_table(evaluation["calibration_error"], evaluation["calibration"]))
    console.print(
        "Stage 2 is calibrated, and its errors are measured, on the films that cross the gate: "
        f"{routed['validation']} of {known['films']} of validation, {routed['test']} of {unseen['films']} of test."
    )
    _print_calls(console, evaluation["certainty"]["table"])
    _print_quality(console, evaluation["quality"])
    few = f"fewer than {MIN_COUNT} of those validation films are of one outcome"
    for names, remark in (
        ("uncalibrated", "Not calibrated, for those validation films hold one outcome only"),
        ("without_slope", f"Calibrated by the intercept alone, for {few}, or the slope would turn their order round"),
        ("without_threshold", f"With a threshold of {UNKNOWN:g}, which nothing chose, for {few}"),
    ):
        if evaluation[names]:
            console.print(f"{remark}: {', '.join(evaluation[names])}")
    ill = f"{number(known['prevalence'])} of validation, {number(unseen['prevalence'])} of test"
    console.print(f"Any finding: {ill}; the test's calibration is off by that.")
    console.print(bfloat16_words(evaluation["bfloat16"]))
    return console.export_text()


def bfloat16_words(effect: dict[str, Any]) -> str:
    """What bfloat16 changes on validation, and what that means for ``PRECISION=auto``."""
    known = Bfloat16Effect.model_validate(effect)
    finding, mean = (number(one, 4, "+") for one in (known.finding_auc_change, known.mean_auc_change))
    flips = ", ".join(f"{name} {films}" for name, films in known.flipped.items() if films)
    objection = known.objection
    said = f"served in float32 where PRECISION is auto: {objection}" if objection else "served in it where it is faster"
    return (
        f"bfloat16 on {known.films} validation films: a probability moves by {known.largest_change:.4f} at most, stage "
        f"1's AUC by {finding}, the mean AUC by {mean}; a call turns on {known.films_flipped} films"
        f"{f' ({flips})' if flips else ''}; {said}."
    )


def print_external(evaluation: dict[str, Any]) -> str:
    """Prints what an external ``evaluation.json`` holds, and returns the same as plain text."""
    console = Console(record=True, width=WIDTH)
    data, test, errors = evaluation["data"], evaluation["test"], evaluation["calibration_error"]
    console.print(
        f"External validation on {data['folder']} ({data['layout']}): {data['films']['test']} films of "
        f"{data['patients']['test']} patients. The models, their calibration, gate and thresholds are those of "
        f"{evaluation['trained_on']['folder']}; nothing was fitted here."
    )
    for remark in evaluation["remarks"]:
        console.print(f"Note: {remark}.")
    if data["synthetic"] or evaluation["trained_on"]["synthetic"]:
        console.print(SYNTHETIC)
    console.print(_binary_table({data["folder"]: test["binary"]}))
    console.print(_disease_table(test, evaluation["thresholds"], "on these films"))
    console.print(_interval_table(evaluation["intervals"], "These films"))
    _print_left_out(console, data, test)
    _print_ways(console, test)
    console.print(_calibration_table(errors, evaluation["calibration"], "Calibration of the run on these films"))
    return console.export_text()


def print_recalibration(record: dict[str, Any], maps: dict[str, dict[str, float]]) -> None:
    """Prints what a site's films changed: ``recalibrated`` of the new archives, and each label's new map."""
    console = Console(width=WIDTH)
    console.print(
        f"{record['folder']}: {record['films']} films of {record['patients']} patients; stage 2 is calibrated on the "
        f"{record['routed']} films that cross the gate"
    )
    if record["synthetic"]:
        console.print(SYNTHETIC)
    console.print(_calibration_table({"site": record["calibration_error"]}, maps))
    if record["kept"]:
        names = ", ".join(record["kept"])
        console.print(f"As they were, calibration and threshold, under {MIN_COUNT} films of either outcome: {names}")
    if record["without_slope"]:
        console.print(f"The intercept alone is new, no rising slope: {', '.join(record['without_slope'])}")
    if record["gate"]:
        _print_gate(console, record["gate"])


def _print_left_out(console: Console, data: dict[str, Any], test: dict[str, Any]) -> None:
    """The findings that are in no figure, and why; films without a label for any finding."""
    unlabelled = data["unlabelled"]
    unlearned, unchosen = unlabelled.get("train", []), unlabelled.get("validation", [])
    for names, remark in (
        (unlearned, "Not learned, for no training film is labelled: never called present, and in no figure"),
        (
            [name for name in unchosen if name not in unlearned],
            "Not calibrated and never called present, for no validation film is labelled",
        ),
        (
            [name for name in test["unlabelled"] if name not in unlearned],
            "Left out, for no test film is labelled (or, elsewhere, the run has not learned it)",
        ),
        (
            [name for name in test["left_out"] if name not in test["unlabelled"]],
            "Left out of the mean, one outcome only in the test list",
        ),
    ):
        if names:
            console.print(f"{remark}: {', '.join(names)}")
    if open_ := test["binary"]["films"] - test["binary"]["labelled"]:
        console.print(f"Stage 1 is not scored by {open_} test films: nobody has said whether they show a finding.")


def _print_calls(console: Console, rows: list[dict[str, Any]]) -> None:
    """The conformal calls at the error that an archive has unless told, and their coverage of the test list."""
    row = next(row for row in rows if row["error"] == ERROR)
    title = f"Calls at an error of {ERROR:.0%}, test list: films whose call denies nothing (95% intervals)"
    table = empty_table(title, "label", "absent to", "present from", "with it", "without it", "all", "uncertain")
    for name, of in row["coverage"].items():
        limits = sorted(row["bounds"][name].values())
        kinds = (interval(of[kind], 2) for kind in ("with_finding", "without_finding"))
        shares = (number(of[kind]["value"]) for kind in ("covered", "uncertain"))
        table.add_row(name, *map(number, limits), *kinds, *shares)
    if row["coverage"]:
        console.print(table)
    if row["uncertain"]:
        few = f"fewer than {row['fewest']} validation patients with it, or without"
        console.print(f"Always called uncertain, {few}: {', '.join(row['uncertain'])}")


def _print_quality(console: Console, checks: dict[str, Any] | None) -> None:
    """What the checks of a film do on test films."""
    if checks is None:
        console.print("No checks of a film: too few films to fit them on.")
        return
    title = "Can it read this film? Test films by the checks of stage 1's features"
    table = empty_table(title, "", "films", "found", "AUC")
    for name, of in checks["test"]["found"].items():
        table.add_row(name, str(of["films"]), number(of["share"]), number(of["area"]))
    table.add_section()
    for name, share in checks["test"]["false_alarms"].items():
        table.add_row(f"upright: {name}", str(checks["test"]["films"]), number(share), "")
    console.print(table)


def _print_ways(console: Console, test: dict[str, Any]) -> None:
    total = test["routed"] + test["skipped"]
    console.print(f"The gate routes {test['routed']} of {total} test films to stage 2 and skips {test['skipped']}.")
    console.print(
        "Ungated: stage 2 on every film. Gated, which is served: 0.0 where it is skipped. "
        "Soft: p(finding) x p(disease | finding)."
    )


def _print_gate(console: Console, gate: dict[str, Any]) -> None:
    """A row per sensitivity, for each split that was measured; ``>`` marks the one that is served."""
    tested = "test" in gate["table"][0]
    where, splits = ("validation", ("validation", "test")) if tested else ("the site's films", ("validation",))
    measured = f"{where}, then test" if tested else where
    title = f"Gate on {measured} (AUC: mean gated minus ungated; saved: share of all ViT passes)"
    figures = ("sens.", "spec.", "skipped", "AUC", "saved")
    table = empty_table(title, "", "wanted", "threshold", *figures * len(splits))
    for column in table.columns[-len(figures) :] if tested else ():
        column.header_style = "italic"
    for row in gate["table"]:
        cells = []
        for split in splits:
            cells += [number(row[split][rate]) for rate in ("sensitivity", "specificity", "skipped")]
            cells += [number(row[split]["auc_change"], 4, "+"), number(row[split]["compute_saved"])]
        mark, style = (">", "bold") if row["sensitivity"] == gate["sensitivity"] else ("", "")
        table.add_row(mark, f"{row['sensitivity']:g}", number(row["threshold"], 4), *cells, style=style)
    console.print(table)
    console.print(f"Served, chosen on {where} alone: the gate for sensitivity {gate['sensitivity']:g}, {gate['why']}.")


def _calibration_table(
    errors: dict[str, Any], maps: dict[str, dict[str, float]], of_what: str = "Calibration on held-out patients"
) -> Table:
    """A row per label: its map, and ECE and Brier before and after on every split of ``errors``; the 14's mean."""
    columns = [f"{split} {name}" for split in errors for name in ("ECE", "Brier")]
    title = f"{of_what} (the 14: routed films alone): ECE ({BINS} bins), Brier"
    table = empty_table(title, "label", "slope", "intercept", *columns)

    def add_row(label: str, slope: str, intercept: str, of: list[dict[str, Any]], style: str = "") -> None:
        cells = [change(error[measure]) for error in of for measure in ("ece", "brier")]
        table.add_row(label, slope, intercept, *cells, style=style)

    for label, one in maps.items():
        add_row(label, f"{one['slope']:.2f}", f"{one['intercept']:.2f}", [of[label] for of in errors.values()])
    table.add_section()
    add_row("mean of 14", "", "", [class_mean(of, FINDINGS) for of in errors.values()], style="bold")
    return table


def _binary_table(splits: dict[str, dict[str, Any]]) -> Table:
    columns = ("split", "films", "prevalence", "AUC", "threshold", "accuracy", *RATE_NAMES)
    table = empty_table("Stage 1: any finding, at the served threshold", *columns)
    for name, metrics in splits.items():
        measures = ("prevalence", "auc", "threshold", "accuracy", *RATES)
        table.add_row(name, str(metrics["films"]), *(number(metrics[measure], 4) for measure in measures))
    return table


def _disease_table(test: dict[str, Any], thresholds: dict[str, float], where: str = "on the test list") -> Table:
    title = f"Stage 2 {where}: AUC, and the rates of what is served (gated, at each threshold)"
    table = empty_table(title, "finding", "positives", *WAYS, "threshold", *RATE_NAMES)
    for name, areas in test["diseases"].items():
        values = (number(areas[way], 4) for way in WAYS)
        served = (number(test["served"][name][rate]) for rate in RATES)
        table.add_row(name, str(areas["positives"]), *values, number(thresholds[name], 4), *served)
    table.add_section()
    table.add_row("mean", "", *(number(test["mean_auc"][way], 4) for way in WAYS), style="bold")
    return table


def _interval_table(of: dict[str, Any], where: str = "Test list") -> Table:
    stage_1 = of["binary"]
    title = f"{where}, 95% intervals from {stage_1['resamples']} resamples of {stage_1['patients']} patients"
    table = empty_table(title, "", *(f"AUC {way}" for way in WAYS), "AUPRC ungated")
    for name, label in stage_1["labels"].items():
        table.add_row(f"{name} (stage 1)", interval(label["auc"]), "", "", interval(label["auprc"]))
    table.add_section()
    for name in FINDINGS:
        labels = [of[way]["labels"][name] for way in WAYS]
        table.add_row(name, *(interval(label["auc"]) for label in labels), interval(labels[0]["auprc"]))
    table.add_section()
    means = (interval(of[way]["mean_auc"]) for way in WAYS)
    table.add_row("mean", *means, interval(of["ungated"]["mean_auprc"]), style="bold")
    return table
