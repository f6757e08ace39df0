"""A report as a table that a person can read."""

from rich.console import Console
from rich.table import Table

from handlers.report import Refusal, Report, Score

BAR = 9
"""Width of a probability of 1.0, in characters: with it a table fits into a terminal's 80."""


def print_answer(film: str, answer: Report | Refusal) -> None:
    """Prints the findings of one film, most probable first, or why it was refused."""
    console = Console(width=None if Console().is_terminal else 88)
    if isinstance(answer, Refusal):
        console.print(f"[bold]{film}[/]: refused, {answer.error.type}: {answer.error.message}\n", highlight=False)
        return
    table = Table(title=f"{film}", title_justify="left", title_style="bold")
    for column in ("finding", "probability", "threshold", "present", *(["call"] if answer.finding.call else [])):
        table.add_column(column, justify="right" if column == "threshold" else "left", no_wrap=True)
    table.add_row(*_row("any finding (stage 1)", answer.finding))
    table.add_section()
    if answer.routed:
        for name, score in sorted(answer.diseases.items(), key=lambda item: -item[1].probability):
            table.add_row(*_row(name.replace("_", " "), score))
    else:
        table.add_row("14 diseases (stage 2)", "below the gate")
    console.print(table)
    if answer.quality and (right := answer.quality.corrected):
        done = [f"turned back from {right.turned} degrees"] if right.turned != "upright" else []
        console.print(f"read {' and '.join([*done, *(['inverted back'] if right.inverted else [])])}", highlight=False)
    for warning in answer.quality.warnings if answer.quality else ():
        console.print(f"[bold]warning[/]: {warning}", highlight=False, soft_wrap=True)
    versions = answer.models
    origin = f"models: binary {versions.binary}, disease {versions.disease}. Research use, not a medical device."
    console.print(origin, highlight=False, soft_wrap=True)
    if "synthetic" in f"{versions.binary}{versions.disease}":
        console.print(
            "[bold]Trained on synthetic films[/]: these probabilities say nothing about a patient.", soft_wrap=True
        )
    console.print()


def _row(name: str, score: Score) -> tuple[str, ...]:
    bar = "█" * round(score.probability * BAR)
    present = "[bold]yes[/]" if score.present else "no"
    call = (score.call,) if score.call else ()
    return name, f"{score.probability:.3f} {bar}", f"{score.threshold:.3f}", present, *call
