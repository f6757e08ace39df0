"""What a node has and has done, for a person: ``python -m pacs.node --status``."""

import time

from rich.console import Console
from rich.table import Table

from pacs.film_queue import FilmQueue, State
from pacs.reception import GB

SHOWN = 50
"""Films and studies that are listed, at most."""
EXPLAINED = (State.STUCK, State.REFUSED)


def print_status(queue: FilmQueue) -> None:
    """Films by who sent them and their state; why some are stuck, refused or wait; the latest studies."""
    console = Console(width=None if Console().is_terminal else 160)
    counts = queue.counts()
    table = Table(title=f"films ({queue.bytes_kept() / GB:.3f} GB on the disk)", title_justify="left")
    table.add_column("from")
    for state in State:
        table.add_column(state, justify="right")
    for source in sorted({source for source, _ in counts}):
        table.add_row(source, *(str(counts.get((source, state), 0)) for state in State))
    console.print(table)
    _print_reasons(console, queue)
    if studies := queue.summaries(SHOWN):
        table = Table("study", "films", "read", "finding", "present", title="studies, the latest", title_justify="left")
        for uid, study in studies.items():
            found = ", ".join(name for name, score in study.diseases.items() if score.present)
            present = found or ("yes" if study.present else "no" if study.read else "")
            finding = f"{study.finding.probability:.3f}" if study.finding else ""
            table.add_row(uid, str(study.films), str(len(study.read)), finding, present)
        console.print(table)


def _print_reasons(console: Console, queue: FilmQueue) -> None:
    films = queue.in_state(EXPLAINED, SHOWN) + [
        film for film in queue.in_state((State.RECEIVED, State.READ, State.DELIVERING), SHOWN) if film.reason
    ]
    if not films:
        return
    table = Table("film (SOP Instance UID)", "from", "state", "age", "reason", title="why", title_justify="left")
    for film in films:
        table.add_row(
            film.sop_uid, film.source, film.state, f"{(time.time() - film.received) / 3600:.1f} h", film.reason
        )
    console.print(table)
    if any(film.state in EXPLAINED for film in films):
        console.print(
            "--again sends all that are stuck or refused on their way again; --again UID ... those films",
            soft_wrap=True,
        )
