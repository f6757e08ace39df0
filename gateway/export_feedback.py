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
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from gateway.feedback import corrected
from gateway.records import RecordsFault, open_to_read
from gateway.settings import Settings
from handlers.findings import FINDING, FINDINGS, LABELS
from workflows import command_line
from workflows.files.atomic import written

DESCRIPTION = ("Image Index", "Image ID", "Reader ID", "given", "readable", "pair", "models", "routed")
COLUMNS = (*DESCRIPTION, *(f"prob_{name}" for name in LABELS), "Abnormal", *FINDINGS, "corrected", "remark")
SAID = {True: "YES", False: "NO", None: ""}


def export(records: Path, out: Path) -> int:
    """Writes the table, and returns its number of rows.

    Raises:
        RecordsFault: there are no records, another program's file is there, or ``out`` is there already.
        NotWritten: the disk is full; nothing of the table is there.
    """
    if out.is_file():
        raise RecordsFault(f"{out} is there already: move it away, or give --out another name")
    with closing(open_to_read(records)) as rows:
        judged = list(_rows(rows))
    with written(out) as new, new.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(judged)
    return len(judged)


def _rows(rows: sqlite3.Connection) -> Iterator[dict[str, object]]:
    found = rows.execute(
        "SELECT report, feedback.key, feedback.given, readable, labels, remark, pair, models, routed, scores, present "
        "FROM feedback JOIN reports ON reports.id = feedback.report ORDER BY feedback.rowid"
    )
    for report, key, given, readable, said, remark, pair, models, routed, scores, present in found:
        labels, probabilities, called = json.loads(said), json.loads(scores), json.loads(present)
        yield {
            **dict(zip(DESCRIPTION[:4], (report, report, key, given), strict=True)),
            "readable": SAID[bool(readable)],
            "pair": pair,
            "models": models,
            "routed": bool(routed),
            **{f"prob_{name}": probabilities[name] for name in LABELS},
            "Abnormal": SAID[labels[FINDING]],
            **{name: SAID[labels[name]] for name in FINDINGS},
            "corrected": "|".join(corrected(labels, {name: name in called for name in LABELS})),
            "remark": remark,
        }


def main(arguments: Sequence[str] | None = None, prog: str = "python -m gateway.export_feedback") -> None:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("export",))
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write")
    parser.add_argument(
        "--records",
        type=Path,
        default=Settings().records_file,
        metavar="FILE",
        help="of the gateway (%(default)s)",
    )
    chosen = parser.parse_args(arguments)
    print(f"{chosen.out}: {export(chosen.records, chosen.out)} reports that readers judged")


if __name__ == "__main__":
    command_line.run(main)
