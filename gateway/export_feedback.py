"""Writes what readers said of reports as a table, beside the probabilities that the reports had.

    python -m workflows.feedback export --out feedback.csv
    python -m training.evaluate --predictions feedback.csv --labels feedback.csv
    python -m training.recalibrate --store model_store --feedback feedback.csv --out model_store_site

A row for each report that was judged, in the order of the judgements. `Image Index` and `Image ID` are the report's id;
`prob_Finding` and `prob_NAME` what it said (0.0 of the 14 where `routed` is False); `Abnormal` and NAME what the reader
said, YES, NO or nothing; `Reader ID` the name of the key; `pair` tells models from others; `corrected` names where the
reader says otherwise. Nothing is taken out of the records, and a gateway may be running.
"""

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from gateway.feedback import corrected
from gateway.record_database import FAULTS, RecordsFault, reading, reason
from gateway.record_tables import FEEDBACK, REPORTS
from gateway.settings import parse_settings
from handlers.findings import FINDING, FINDINGS, LABELS
from workflows import command_line
from workflows.files.atomic import written

DESCRIPTION = ("Image Index", "Image ID", "Reader ID", "given", "readable", "pair", "models", "routed")
COLUMNS = (*DESCRIPTION, *(f"prob_{name}" for name in LABELS), "Abnormal", *FINDINGS, "corrected", "remark")
SAID = {True: "YES", False: "NO", None: ""}


def export(records: str, out: Path) -> int:
    """Writes the table, and returns its number of rows.

    Args:
        records: the gateway's, a file or a URL.

    Raises:
        RecordsFault: there are no records, they cannot be read, another program's file is there, or ``out`` is there
            already.
        NotWritten: the disk is full; nothing of the table is there.
    """
    if out.is_file():
        raise RecordsFault(f"{out} is there already: move it away, or give --out another name")
    judged = list(_rows(records))
    with written(out) as new, new.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(judged)
    return len(judged)


def _rows(records: str) -> Iterator[dict[str, object]]:
    said, report = FEEDBACK.c, REPORTS.c
    of_report = (report.pair, report.models, report.routed, report.scores, report.present)
    asked = select(said.report, said.key, said.given, said.readable, said.labels, said.remark, *of_report)
    database = reading(records)
    try:
        with database.transaction() as rows:
            found = rows.execute(asked.join_from(FEEDBACK, REPORTS).order_by(said.given, said.report))
            yield from map(_row, found)
    except RecordsFault:
        raise
    except FAULTS as fault:
        raise RecordsFault(f"{database.name} cannot be read ({reason(fault)})") from None
    finally:
        database.close()


def _row(found: Any) -> dict[str, object]:
    labels, probabilities, called = json.loads(found.labels), json.loads(found.scores), json.loads(found.present)
    return {
        **dict(zip(DESCRIPTION[:4], (found.report, found.report, found.key, found.given), strict=True)),
        "readable": SAID[bool(found.readable)],
        "pair": found.pair,
        "models": found.models,
        "routed": bool(found.routed),
        **{f"prob_{name}": probabilities[name] for name in LABELS},
        "Abnormal": SAID[labels[FINDING]],
        **{name: SAID[labels[name]] for name in FINDINGS},
        "corrected": "|".join(corrected(labels, {name: name in called for name in LABELS})),
        "remark": found.remark,
    }


def main(arguments: Sequence[str] | None = None, prog: str = "python -m gateway.export_feedback") -> None:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("export",))
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write")
    parser.add_argument(
        "--records",
        metavar="FILE_OR_URL",
        help="of the gateway (CXR_RECORDS, or records/gateway.sqlite)",
    )
    chosen = parser.parse_args(arguments)
    records = chosen.records or parse_settings([]).records_place
    print(f"{chosen.out}: {export(records, chosen.out)} reports that readers judged")


if __name__ == "__main__":
    command_line.run(main)
